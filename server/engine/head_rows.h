// Whole rows of weights of all heads at once, some rows at a time: for what compares heads, or needs a row's weights
// together with something else. Memory grows with the tokens, not with their square.
#ifndef HEADLIGHT_SERVER_ENGINE_HEAD_ROWS_H_
#define HEADLIGHT_SERVER_ENGINE_HEAD_ROWS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/engine/data.h"
#include "server/engine/phased_work.h"
#include "server/kernels/matmul.h"
#include "server/plan/head_rows_plan.h"

namespace headlight {

// How a row of one head ended.
struct RowEnd {
  std::int32_t keys = 0;  // that it may see; 0: none, and its weights are 0
  float sum = 0;          // of its weights: 1, less with a sink; NaN: the weights are not numbers
};

// The same query rows of every head.
struct HeadRows {
  std::int64_t heads = 0;
  Range rows;
  Range keys;                      // all that any of the rows may see; other keys have no weight
  const float* weights = nullptr;  // [heads, rows, stride], of which `keys` are set
  std::int64_t stride = 0;
  const RowEnd* ends = nullptr;          // [heads, rows]
  const float* value_lengths = nullptr;  // [heads, Tk], see value_lengths.h
  std::int64_t key_tokens = 0;

  // Weights of row rows.begin + r of head h, by key: [keys.begin .. keys.end - 1] may be read.
  const float* Row(std::int64_t h, std::int64_t r) const { return weights + (h * rows.size() + r) * stride; }
  const RowEnd& End(std::int64_t h, std::int64_t r) const { return ends[h * rows.size() + r]; }
  const float* ValueLengths(std::int64_t h) const { return value_lengths + h * key_tokens; }
};

// Where rows go. They come in chains: those of one chain one after the other, from one thread at a time, in an order
// that depends on the plan alone; different chains at once.
class HeadRowsSink {
 public:
  virtual ~HeadRowsSink() = default;

  // Before any row, once, on a worker: the place to allocate.
  virtual void Begin(std::int64_t chains) = 0;

  // Step 0, 1, ... of the same rows, each at most about a millisecond. False: it is done with them.
  virtual absl::StatusOr<bool> OnRows(std::int64_t chain, const HeadRows& rows, std::int64_t step) = 0;

  // After all rows.
  virtual void End() = 0;
};

// One sequence's embeddings through a layer's heads; no output is made. Rows that may see no key in any head may be
// left out. Fails as AttentionWork. Gives its memory back when it ends, not when it is destroyed.
class HeadRowsWork final : public PhasedWork {
 public:
  // All of them, and what `data` views, outlive it. `accepted` is when waiting began; InfinitePast: it does not wait.
  // REQUIRES: one batch, embeddings input, no head gains.
  HeadRowsWork(const HeadRowsPlan& plan, const AttentionData& data, MemoryAccount& account, MatmulCache& matmuls,
               HeadRowsSink& sink, absl::Time accepted);
  ~HeadRowsWork() override;

 private:
  struct State;

  void Build() override;

  std::unique_ptr<State> state_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_HEAD_ROWS_H_
