// What HeadTotals adds up, as a sink of whole rows: one pass over a sequence.
#ifndef HEADLIGHT_SERVER_ANALYSIS_HEAD_SUMS_H_
#define HEADLIGHT_SERVER_ANALYSIS_HEAD_SUMS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/analysis/head_report.h"
#include "server/base/memory.h"
#include "server/engine/head_rows.h"
#include "server/problem/spec.h"

namespace headlight {

// What is known of a sequence beside its embeddings.
struct SequenceTokens {
  absl::Span<const std::int64_t> ids;  // T, or none: then nothing is a duplicate
  const std::byte* pattern = nullptr;  // [T, T] of 0 and 1, or none
};

// Where each token stood before: the places of equal ids, in O(T) memory whatever they are.
class EarlierTokens {
 public:
  EarlierTokens() = default;
  explicit EarlierTokens(absl::Span<const std::int64_t> ids);

  // Places before i with the id of i, ascending.
  absl::Span<const std::int32_t> Of(std::int64_t i) const;

 private:
  std::vector<std::int32_t> places_;        // grouped by id
  std::vector<std::int32_t> begin_, slot_;  // by place: where its group begins in places_, and where it is itself
};

// Sums in double, chain by chain, and chains in their order: the same bits with any number of threads.
class HeadSumsSink final : public HeadRowsSink {
 public:
  // All of them, and what `tokens` views, outlive it. `totals` gets the sequence when its rows have ended.
  HeadSumsSink(const HeadRowsPlan& plan, SequenceTokens tokens, MemoryAccount& account, HeadTotals& totals);

  void Begin(std::int64_t chains) override;
  // Errors: INVALID_ARGUMENT for "pattern" where it holds a byte other than 0 and 1.
  absl::StatusOr<bool> OnRows(std::int64_t chain, const HeadRows& rows, std::int64_t step) override;
  void End() override;

  // What it costs beside the rows themselves.
  static std::int64_t Flops(const HeadRowsPlan& plan);
  static std::int64_t Bytes(const HeadRowsPlan& plan);

 private:
  // What one chain keeps.
  struct Chain {
    HeadSums* heads;
    PairSums* pairs;
    double* log_sums;  // [rows, heads]: minus the entropies of the rows at hand
    float* pattern;    // [T]: the row's of the caller's pattern
  };
  // One row of one head.
  struct Row {
    const HeadRows& rows;
    std::int64_t head;
    std::int64_t r;  // within rows
    double value_sum;
  };

  Chain ChainAt(std::int64_t chain) const;
  absl::Status ReadPattern(std::int64_t row, float* out) const;
  void AddRow(const HeadRows& rows, std::int64_t head, std::int64_t r, const Chain& chain) const;
  void AddLooks(const Row& row, HeadSums& sums) const;
  // On `keys`, each moved by `step`; what is then no key of the sequence is left out.
  void AddLook(Look look, const Row& row, absl::Span<const std::int32_t> keys, std::int32_t step, HeadSums& sums) const;
  static void AddDivergence(const HeadRows& rows, std::int64_t head, std::int64_t other, std::int64_t r,
                            const Chain& chain, PairSums& sums);
  std::int64_t pair_count() const { return heads_ * (heads_ - 1) / 2; }

  const HeadRowsPlan& plan_;
  SequenceTokens tokens_;
  MemoryAccount& account_;
  HeadTotals& totals_;
  const std::int64_t heads_, count_, keys_;  // Hq, T, and keys that exist
  std::int64_t chains_ = 0;
  EarlierTokens earlier_;
  FloatBuffer distances_;  // [2T - 1]: |x - (T - 1)|
  Buffer<HeadSums> head_sums_;
  Buffer<PairSums> pair_sums_;
  Buffer<double> log_sums_;
  FloatBuffer patterns_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_HEAD_SUMS_H_
