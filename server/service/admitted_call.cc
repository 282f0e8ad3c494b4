#include "server/service/admitted_call.h"

#include <utility>

#include "server/service/costs.h"

namespace headlight {

absl::Status AdmittedCall::Admit(v1::Priority priority, absl::Time deadline) {
  absl::StatusOr<Ticket> ticket = shared_.admission.Admit(cost_, PriorityOf(priority), deadline);
  if (!ticket.ok()) return ticket.status();
  ticket_ = *std::move(ticket);
  return absl::OkStatus();
}

void AdmittedCall::AddCost(const ExecutionPlan& plan) {
  const CallCost cost = CostOf(plan, 0, shared_.pool.workers());
  cost_.kind = cost.kind;
  cost_.field = cost.field;
  cost_.flops += cost.flops;
  cost_.bytes += cost.bytes;
  shape_ = ShapeOf(plan);
}

void AdmittedCall::Describe(CallRecord* record) const { record->shape = shape_; }

}  // namespace headlight
