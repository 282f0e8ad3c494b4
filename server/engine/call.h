// What the phases of one attention call share. Private to the engine.
#ifndef HEADLIGHT_SERVER_ENGINE_CALL_H_
#define HEADLIGHT_SERVER_ENGINE_CALL_H_

#include <vector>

#include "server/base/memory.h"
#include "server/base/tensor.h"
#include "server/engine/data.h"
#include "server/engine/sink.h"
#include "server/engine/watch.h"
#include "server/kernels/matmul.h"
#include "server/masks/rules.h"
#include "server/plan/planner.h"
#include "server/positions/rotary.h"

namespace headlight {

// Where finished rows of heads go: [B, H, T, Dv] or [B, T, H * Dv] of any kind.
struct HeadsTarget {
  HeadsView where;  // its data is written through
  std::byte* At(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return const_cast<std::byte*>(where.At(b, h, t));
  }
};

// Where K or V of a call lie, and what is yet to be done to a row of theirs before products take it.
struct KeyValueRows {
  HeadsView where;
  std::int64_t size = 0;  // D or Dv
  bool ready = true;      // of the kind that products take, turned and rounded
  bool turns = false;     // by the key's position, where not ready
  // Full tiles as packed products take them, [B, Hkv, full tiles], or null (products.h).
  const std::byte* tiles = nullptr;
  std::int64_t tile_bytes = 0;
};

// Keys and values that products could not take in place, or take faster in another order.
struct Packed {
  Buffer<std::byte> keys, values;
  Buffer<std::byte> key_tiles, value_tiles;
};

struct CallState {
  const ExecutionPlan& plan;
  AttentionData data;
  MemoryAccount& account;
  MatmulCache& matmuls;
  std::vector<ScoreSink*> sinks;
  MaskRules rules;
  const Watch* watch = nullptr;  // or none

  // Whether all heads of some rows are done before the next rows begin: where rows of the output hold all heads, and
  // somebody waits for the first. Otherwise one head after the other, whose keys and values stay in the cache.
  bool RowsOutermost() const {
    return watch != nullptr && spec().layout == HeadLayout::kTokenMajor && !spec().projection.has_value();
  }

  // Set by the phases before attention: Q of any kind, turned when its tile is loaded.
  HeadsView query = {};
  KeyValueRows key = {}, value = {};
  RotaryTable query_rotary = {};
  RotaryTable key_rotary = {};

  // What attention writes.
  std::vector<HeadsTarget> targets = {};
  std::byte* output = nullptr;   // as the answer carries it, or null
  float* log_sum_exp = nullptr;  // [B, Hq, Tq], or null

  // [B, Hq, Tq]: what turns scores into weights, kept where a sweep needs it.
  Buffer<RowNorm> norms = {};

  // [B, Hq, Tq], with ALiBi: the distance that biases count from (alibi.h).
  Buffer<std::int64_t> alibi_bases = {};

  // The row of the rotary tables for a token of a batch.
  std::int64_t QueryRow(std::int64_t batch, std::int64_t token) const {
    return query_rotary.rows() > dims().query_tokens ? batch * dims().query_tokens + token : token;
  }
  std::int64_t KeyRow(std::int64_t batch, std::int64_t token) const {
    return key_rotary.rows() > dims().key_tokens ? batch * dims().key_tokens + token : token;
  }

  // The row of a key or value at (b, h, t) as products take it, at `out`. It is first made in `row`, of `size` floats:
  // the same place as `out` where products take float32; `out` or beyond, or elsewhere, where they take bfloat16.
  void MakeRow(const KeyValueRows& from, std::int64_t b, std::int64_t h, std::int64_t t, float* row,
               std::byte* out) const;

  const ProblemSpec& spec() const { return plan.spec; }
  const Dimensions& dims() const { return plan.spec.dims; }
};

// A tile of attention or of a sweep is done.
inline void CountTile(const CallState& call) {
  if (call.watch != nullptr) call.watch->tiles->done.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_CALL_H_
