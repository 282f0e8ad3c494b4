#include "server/analysis/trace.h"

#include <utility>

namespace headlight {
namespace {

AttributionRequest After(AttributionRequest request, const std::vector<std::int64_t>& ids) {
  request.last_id = ids.back();
  return request;
}

}  // namespace

Trace::Trace(const StackPlan& plan, const StackViews& stack, const std::vector<std::int64_t>& ids,
             AttributionRequest request, const Resources& resources, absl::Time accepted)
    : plan_(plan),
      sinks_(plan.layers.size()),
      run_(plan, stack, ids, {resources.account, resources.matmuls, *this}, accepted),
      attribution_(plan, stack, run_, After(request, ids), resources.account) {}

std::vector<PhasedWork*> Trace::order() {
  std::vector<PhasedWork*> works = run_.order();
  works.push_back(&attribution_);
  return works;
}

std::vector<ScoreSink*> Trace::SinksOf(std::int64_t layer) {
  const ProblemSpec& spec = plan_.layers[static_cast<std::size_t>(layer)].spec;
  LayerSinks& sinks = sinks_[static_cast<std::size_t>(layer)];
  sinks.maps = MakeMapSinks(spec);
  sinks.statistics = std::make_unique<StatisticsSink>(spec);
  std::vector<ScoreSink*> all;
  for (const auto& map : sinks.maps) all.push_back(map.get());
  all.push_back(sinks.statistics.get());
  return all;
}

void Trace::Ended(std::int64_t layer) {
  LayerSinks& sinks = sinks_[static_cast<std::size_t>(layer)];
  sinks.heads = sinks.statistics->results();
  sinks.statistics.reset();
}

std::vector<MapResult> Trace::TakeMaps(std::int64_t layer) {
  std::vector<MapResult> maps;
  for (const auto& sink : sinks_[static_cast<std::size_t>(layer)].maps) {
    for (MapResult& map : sink->TakeResults()) maps.push_back(std::move(map));
  }
  return maps;
}

}  // namespace headlight
