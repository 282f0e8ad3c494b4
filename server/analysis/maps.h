// Maps as sinks: what is made of scores as they pass, turned into weights when a row is done, whatever the algorithm.
// Full maps and top keys of weights and of biased scores are made while attention runs; maps of raw scores, pooled maps
// and column sums afterwards, from sweeps.
#ifndef HEADLIGHT_SERVER_ANALYSIS_MAPS_H_
#define HEADLIGHT_SERVER_ANALYSIS_MAPS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "server/base/tensor.h"
#include "server/engine/sink.h"
#include "server/problem/spec.h"

namespace headlight {

// The largest values of each row, descending, ties to the lower key; forbidden keys are left out.
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
  MapStage stage = MapStage::kWeights;
  Range rows;
  std::int64_t key_begin = 0;
  // Of the answer's kind: [rows, keys] of a full map, [rows, columns] of a pooled one, [keys] of column sums; empty for
  // top keys.
  OwnedTensor weights;
  TopKeys top_keys;
};

// A request's maps, as a sink. Results are complete when the work has ended.
class MapSink : public ScoreSink {
 public:
  bool Wants(std::int64_t batch, std::int64_t head, Range rows) const final;
  void OnScores(const ScoreBlock& block) final;
  void OnRowsDone(const RowsDone& done) final;
  std::vector<Sweep> Sweeps() const final { return sweeps_; }

  // Numbers are float32 until they are complete; then they are narrowed to the answer's kind, in place.
  std::int64_t finish_tasks() const final;
  bool Finish(std::int64_t task, std::int64_t step) final;

  // By batch, then head, then range.
  std::vector<MapResult> TakeResults() { return std::move(results_); }

 protected:
  // Allocates nothing of the results' data, Begin does. `index` is the request's place in OutputSelection.maps.
  MapSink(const ProblemSpec& spec, std::int64_t index);

  // While attention runs: scores of one row for keys keys.begin .. keys.end - 1, which lie within the map's keys.
  virtual void TakeRow(MapResult& /*result*/, const ScoreBlock& /*block*/, std::int64_t /*row*/, Range /*keys*/) {}
  // The row is complete; keys that did not come may not attend. Its scores are `shift` above what they are.
  virtual void EndRow(MapResult& /*result*/, std::int64_t /*row*/, RowNorm /*norm*/, double /*shift*/) {}

  // Adds a sweep over some rows of a result, or some keys.
  void AddSweep(std::size_t result, Range rows, Range keys);
  // Which result a sweep belongs to.
  std::size_t ResultOf(std::size_t sweep) const { return result_of_sweep_[sweep]; }
  const Sweep& SweepAt(std::size_t sweep) const { return sweeps_[sweep]; }

  MapSpec map_;
  std::vector<MapResult> results_;

 private:
  // Calls f(result, part) for every result of this head whose rows meet `rows`.
  template <typename F>
  void ForResults(std::int64_t batch, std::int64_t head, Range rows, F f);

  TensorKind kind_;
  std::vector<std::int64_t> batch_slot_, head_slot_;  // -1: not asked for
  std::vector<Sweep> sweeps_;
  std::vector<std::size_t> result_of_sweep_;
};

// One sink per request of the problem. Room for the answers is allocated when the work begins.
std::vector<std::unique_ptr<MapSink>> MakeMapSinks(const ProblemSpec& spec);

// The sinks of maps.cc's factory that are made from sweeps alone (summaries.cc).
std::unique_ptr<MapSink> MakePooledSink(const ProblemSpec& spec, std::int64_t index);
std::unique_ptr<MapSink> MakeColumnSumsSink(const ProblemSpec& spec, std::int64_t index);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_MAPS_H_
