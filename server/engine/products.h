// The two products of attention for a tile, and keys and values brought into the order in which they are fastest.
#ifndef HEADLIGHT_SERVER_ENGINE_PRODUCTS_H_
#define HEADLIGHT_SERVER_ENGINE_PRODUCTS_H_

#include <cstdint>

#include "server/engine/call.h"
#include "server/engine/phased_work.h"
#include "server/kernels/matmul.h"

namespace headlight {

// Whether scores are scaled by their Q: in float32, and where the scale is a power of two up to 1, which changes Q's
// exponents and no digit of the scores. Elsewhere Q in bfloat16 would be rounded once more.
bool QueryCarriesScale(const CallState& call);

// Scores [rows, keys] of Q [rows, D], both dense: elsewhere oneDNN takes its slower kernels. K's rows are `stride`
// elements apart. They are scaled here where Q does not carry it.
MatmulShape ScoreProduct(const CallState& call, std::int64_t rows, std::int64_t keys, std::int64_t stride);

// [rows, Dv] += weights [rows, keys] V, both dense. V's rows are `stride` elements apart.
MatmulShape BlendProduct(const CallState& call, std::int64_t rows, std::int64_t keys, std::int64_t stride);

// A tile of K or V of one head as packed products take it, or null where there is none.
const std::byte* PackedTile(const CallState& call, const KeyValueRows& from, std::int64_t batch, std::int64_t head,
                            Range keys);

// Adds what makes all packed tiles that the plan asks for, once K and V are ready. `call` and `packed` outlive it.
void AddPackedTiles(CallState& call, Packed& packed, PhasedWork& work);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_PRODUCTS_H_
