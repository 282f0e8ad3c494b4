#include "server/service/costs.h"

#include <algorithm>

#include "server/kernels/matmul.h"
#include "server/service/pipeline.h"

namespace headlight {

Processor ThisProcessor() { return {MultipliesBF16(), GainsFromPacking()}; }

CallShape ShapeOf(const ExecutionPlan& plan) {
  const Dimensions& d = plan.spec.dims;
  return {d.batch, d.query_heads, d.key_value_heads, d.query_tokens, d.key_tokens, d.head_size, d.value_head_size};
}

Priority PriorityOf(v1::Priority priority) {
  return priority == v1::PRIORITY_BATCH ? Priority::kBatch : Priority::kInteractive;
}

CallCost CostOf(const ExecutionPlan& plan, std::int64_t request_bytes, int workers) {
  CallCost cost;
  cost.kind = plan.algorithm == Algorithm::kNaive ? CostKind::kNaive
              : plan.bf16_products                ? CostKind::kFlashBF16
                                                  : CostKind::kFlash;
  cost.flops = plan.flops + plan.map_flops;
  cost.bytes = request_bytes + plan.WorkspaceTotal(workers) + plan.response_bytes + plan.sink_bytes;
  cost.field = plan.spec.InputField();
  return cost;
}

double FlopsDone(const Shared& shared, const CallCost& cost, const CallControl& control) {
  const auto all = static_cast<double>(cost.flops + cost.reference_flops);
  return std::min(control.worker_seconds() / shared.admission.model().WorkerSeconds(cost), 1.0) * all;
}

}  // namespace headlight
