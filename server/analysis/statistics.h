// Heads in numbers, as a sink: entropy, confidence, distance and the shares of some keys, in one pass with memory for a
// few numbers a row.
#ifndef HEADLIGHT_SERVER_ANALYSIS_STATISTICS_H_
#define HEADLIGHT_SERVER_ANALYSIS_STATISTICS_H_

#include <cstdint>
#include <limits>
#include <unordered_set>
#include <vector>

#include "server/engine/sink.h"
#include "server/problem/spec.h"

namespace headlight {

// Means over the rows that see at least one key, of the weights as they are (with a sink they add up to less than one);
// 0 where there is no such row.
struct HeadStatistics {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  double mean_entropy = 0;         // nats
  double mean_largest_weight = 0;  // 0..1
  double mean_distance = 0;        // sum of weight x |query position - key position|, tokens
  double share_on_previous = 0;    // on keys at the position before; over the rows for which there is one
  double share_on_same = 0;        // on keys at the row's own position
  double share_on_first = 0;       // on key 0
  double largest_score = -std::numeric_limits<double>::infinity();  // after bias and masks, of any pair
};

class StatisticsSink final : public ScoreSink {
 public:
  // `spec` outlives it.
  explicit StatisticsSink(const ProblemSpec& spec) : spec_(spec) {}

  void Begin() override;
  bool Wants(std::int64_t /*batch*/, std::int64_t /*head*/, Range /*rows*/) const override { return true; }
  void OnScores(const ScoreBlock& block) override;
  void OnRowsDone(const RowsDone& done) override;
  std::int64_t finish_tasks() const override { return static_cast<std::int64_t>(results_.size()); }
  bool Finish(std::int64_t task, std::int64_t step) override;

  // By batch, then head; complete when the work has ended.
  const std::vector<HeadStatistics>& results() const { return results_; }

 private:
  // Sums over the keys that have passed, of exp(score - largest); after the row's end what they came to.
  struct Row {
    float largest = -std::numeric_limits<float>::infinity();
    float weight = 0;    // then: the largest weight
    float score = 0;     // x (score - largest); then: the entropy
    float distance = 0;  // x distance
    float previous = 0, same = 0, first = 0;
    bool sees = false;  // some key, once the row is done
  };

  Row& RowAt(std::int64_t batch, std::int64_t head, std::int64_t row) {
    const Dimensions& d = spec_.dims;
    return rows_[static_cast<std::size_t>((batch * d.query_heads + head) * d.query_tokens + row)];
  }
  // Some keys of one row, at most as many as the distances' buffer has room for.
  void Take(const ScoreBlock& block, std::int64_t row, Range keys, Row& sums) const;
  bool HasPrevious(std::int64_t batch, std::int64_t position) const;

  const ProblemSpec& spec_;
  std::vector<Row> rows_;
  std::vector<std::unordered_set<std::int64_t>> key_positions_;  // per batch, where positions are given one by one
  std::vector<HeadStatistics> results_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_STATISTICS_H_
