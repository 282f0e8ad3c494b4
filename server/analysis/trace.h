// A stack step by step: every layer's maps and statistics, logits, bets and attribution, as works for one Sequence.
#ifndef HEADLIGHT_SERVER_ANALYSIS_TRACE_H_
#define HEADLIGHT_SERVER_ANALYSIS_TRACE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "server/analysis/attribution.h"
#include "server/analysis/maps.h"
#include "server/analysis/statistics.h"
#include "server/engine/stack_run.h"

namespace headlight {

class Trace final : private LayerWatcher {
 public:
  // What a trace works with; outlives it.
  struct Resources {
    MemoryAccount& account;
    MatmulCache& matmuls;
  };

  // As StackRun. `request.last_id` is set here.
  Trace(const StackPlan& plan, const StackViews& stack, const std::vector<std::int64_t>& ids,
        AttributionRequest request, const Resources& resources, absl::Time accepted);

  // What has to run, in this order.
  std::vector<PhasedWork*> order();

  // When it has. Of a layer: its heads in order; no maps where the plan has none.
  std::vector<MapResult> TakeMaps(std::int64_t layer);
  const std::vector<HeadStatistics>& statistics(std::int64_t layer) const { return LayerAt(layer).heads; }
  OwnedTensor TakeLogits() { return run_.TakeLogits(); }
  const Attribution& attribution() const { return attribution_.result(); }

 private:
  struct LayerSinks {
    std::vector<std::unique_ptr<MapSink>> maps;
    // Keeps numbers of every row, and so ends with its layer.
    std::unique_ptr<StatisticsSink> statistics;
    std::vector<HeadStatistics> heads;
  };

  const LayerSinks& LayerAt(std::int64_t layer) const { return sinks_[static_cast<std::size_t>(layer)]; }
  std::vector<ScoreSink*> SinksOf(std::int64_t layer) override;
  void Ended(std::int64_t layer) override;

  const StackPlan& plan_;
  std::vector<LayerSinks> sinks_;
  StackRun run_;
  AttributionWork attribution_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_TRACE_H_
