// What AnalyzeCircuits asks for, decoded and proven sane.
#ifndef HEADLIGHT_SERVER_SERVICE_CIRCUITS_CHECK_H_
#define HEADLIGHT_SERVER_SERVICE_CIRCUITS_CHECK_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "headlight/v1/analysis_service.pb.h"
#include "server/analysis/circuit_swap.h"
#include "server/analysis/circuits_work.h"
#include "server/base/limits.h"
#include "server/engine/data.h"
#include "server/layers/store.h"
#include "server/problem/spec.h"

namespace headlight {

// An attention of one sequence in float32, its output alone; and whose circuits.
struct CheckedSwap {
  ProblemSpec spec;
  AttentionData data;
  SwapHeads heads;
};

// Views are of the request, which outlives it, and of the layers.
struct CheckedCircuits {
  std::shared_ptr<const Layer> layer, later;
  CircuitsProblem problem;
  std::optional<CheckedSwap> swap;
};

// No element of a tensor is looked at.
// Errors: INVALID_ARGUMENT (every violation at once), NOT_FOUND (a layer, where nothing else is wrong).
absl::StatusOr<CheckedCircuits> CheckCircuits(const v1::AnalyzeCircuitsRequest& request, const LayerStore& layers,
                                              const Limits& limits);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_CIRCUITS_CHECK_H_
