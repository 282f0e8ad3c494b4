// AnalyzeCircuits as a call.
#ifndef HEADLIGHT_SERVER_SERVICE_CIRCUITS_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_CIRCUITS_CALL_H_

#include <memory>
#include <optional>

#include "headlight/v1/analysis_service.pb.h"
#include "server/analysis/circuit_swap.h"
#include "server/analysis/circuits_work.h"
#include "server/service/admitted_call.h"
#include "server/service/circuits_check.h"

namespace headlight {

// Request and response outlive it.
class CircuitsCall : public AdmittedCall {
 public:
  using Request = v1::AnalyzeCircuitsRequest;
  using Response = v1::AnalyzeCircuitsResponse;

  explicit CircuitsCall(Shared& shared) : AdmittedCall(shared) {}

  // Errors: those of CheckCircuits, MakePlan and Admission::Admit; INVALID_ARGUMENT with RESPONSE_TOO_LARGE, or
  // REQUEST_TOO_EXPENSIVE where its workspace is.
  absl::Status Accept(const Request& request, absl::Time deadline);
  void Compute(ComputePool::Done done);
  // REQUIRES: `done` of Compute was called with OK.
  void Encode(Response* response);

 private:
  absl::Status PlanSwap();
  absl::Status CheckCost(const CircuitsCost& cost) const;
  void MakeWork();

  std::optional<CheckedCircuits> checked_;  // points into the request
  std::optional<ExecutionPlan> rest_, alone_;
  std::unique_ptr<CircuitsWork> circuits_;
  std::unique_ptr<CircuitSwap> swap_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_CIRCUITS_CALL_H_
