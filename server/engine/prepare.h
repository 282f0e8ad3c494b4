// The phases before the products of attention: embeddings to Q, K and V, rotary tables, and keys and values brought
// into the form in which tiles read them. And the one after them: the output projection.
#ifndef HEADLIGHT_SERVER_ENGINE_PREPARE_H_
#define HEADLIGHT_SERVER_ENGINE_PREPARE_H_

#include "server/engine/call.h"
#include "server/engine/phased_work.h"

namespace headlight {

// Embeddings and weights in float32, and what is projected from them. Lives as long as the call's phases.
struct Projection {
  const float* embeddings = nullptr;  // [B x Tq, E], positions added
  const float* context = nullptr;     // [B x Tk, Ec]
  // [fan-in, fan-out] each; `output` null where the concatenation is the output.
  const float *query = nullptr, *key = nullptr, *value = nullptr, *output = nullptr;
  FloatBuffer own_embeddings, own_context, own_weights;
  FloatBuffer query_rows, key_rows, value_rows;  // [B, T, heads x size]
  FloatBuffer concat;                            // [B, Tq, Hq x Dv], where there is an output projection
};

// Embeddings input: makes what is seeded, widens what is not float32, adds positions, and projects. Sets call.query,
// key and value. `call` and `projection` outlive the phases.
void AddProjection(CallState& call, Projection& projection, PhasedWork& work);

// Both inputs: fills the rotary tables, turns projected keys, and makes K and V as products take them where the plan
// packs, and their tiles where it packs those; elsewhere tiles make theirs. Q, K, V input: sets call.query, key and
// value. `call` and `packed` outlive the phases.
void AddPacking(CallState& call, Packed& packed, PhasedWork& work);

// output = concat Wo + bo, in the kind of call.output.
void AddOutputProjection(CallState& call, Projection& projection, PhasedWork& work);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_PREPARE_H_
