// What calls share whose computation is one work under one ticket.
#ifndef HEADLIGHT_SERVER_SERVICE_ADMITTED_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_ADMITTED_CALL_H_

#include <memory>
#include <optional>

#include "server/service/pipeline.h"

namespace headlight {

// A base for the calls of AnalysisService, which StartCall runs: they add Request, Response, Accept and Encode. Accept
// decodes, checks and plans, sets cost_, calls Admit and makes work_; Encode moves what was computed into the answer.
class AdmittedCall {
 public:
  // REQUIRES: Accept returned OK.
  void Compute(ComputePool::Done done) { shared_.pool.Run(control(), work_.get(), std::move(done)); }

  const std::shared_ptr<CallControl>& control() const { return ticket_->control(); }
  Stage stage() const { return work_->stage(); }
  double flops_done() const { return FlopsDone(shared_, cost_, *control()); }
  void Describe(CallRecord* record) const;

 protected:
  explicit AdmittedCall(Shared& shared) : shared_(shared) {}
  ~AdmittedCall() = default;

  // Takes a ticket for cost_. Errors: those of Admission::Admit.
  absl::Status Admit(v1::Priority priority, absl::Time deadline);

  // What an attention within the call costs: to be added to cost_, whose kind and field it sets.
  void AddCost(const ExecutionPlan& plan);

  Shared& shared_;
  CallCost cost_;
  std::optional<Ticket> ticket_;
  std::unique_ptr<Sequence> work_;
  std::optional<CallShape> shape_;  // for the log
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_ADMITTED_CALL_H_
