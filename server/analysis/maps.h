// Weight maps as sinks: made from scores as they pass, turned into weights by the log-sum-exp, whatever the algorithm.
#ifndef HEADLIGHT_SERVER_ANALYSIS_MAPS_H_
#define HEADLIGHT_SERVER_ANALYSIS_MAPS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "server/base/tensor.h"
#include "server/engine/sink.h"
#include "server/problem/spec.h"

namespace headlight {

// The largest weights of each row, by descending weight, ties to the lower key; forbidden keys are left out.
struct TopKeys {
  std::int64_t k = 0;
  std::vector<std::uint32_t> counts;  // per row, at most k
  std::vector<std::uint32_t> keys;    // rows x k; of each row the first `count` are set
  std::vector<float> weights;         // likewise
};

// One batch, head and range of rows of one request.
struct MapResult {
  std::int64_t request_index = 0;
  std::int64_t batch = 0;
  std::int64_t head = 0;
  Range rows;
  std::int64_t key_begin = 0;
  OwnedTensor weights;  // [rows, keys] of the answer's kind; empty for top keys
  TopKeys top_keys;
};

// A request's maps, as a sink. Results are complete when the work has ended.
class MapSink : public ScoreSink {
 public:
  bool Wants(std::int64_t batch, std::int64_t head, Range rows) const final;
  void OnScores(const ScoreBlock& block) final;
  void OnRowsDone(const RowsDone& done) final;

  // By batch, then head, then range.
  std::vector<MapResult> TakeResults() { return std::move(results_); }

 protected:
  // Allocates nothing of the results' data, Begin does. `index` is the request's place in OutputSelection.maps.
  MapSink(const ProblemSpec& spec, std::int64_t index);

  // Scores of one row for keys keys.begin .. keys.end - 1, which lie within the map's keys.
  virtual void TakeRow(MapResult& result, std::int64_t row, Range keys, const float* scores) = 0;
  // The row is complete; its first `seen` columns have come, the others may not attend.
  virtual void EndRow(MapResult& result, std::int64_t row, float log_sum_exp) = 0;

  Range keys_;
  std::vector<MapResult> results_;

 private:
  // Calls f(result, part) for every result of this head whose rows meet `rows`.
  template <typename F>
  void ForResults(std::int64_t batch, std::int64_t head, Range rows, F f);

  std::vector<Range> ranges_;
  std::int64_t heads_ = 0;
  std::vector<std::int64_t> batch_slot_, head_slot_;  // -1: not asked for
};

// One sink per request of the problem. Room for the answers is allocated when the work begins.
std::vector<std::unique_ptr<MapSink>> MakeMapSinks(const ProblemSpec& spec);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_MAPS_H_
