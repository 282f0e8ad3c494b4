// One AblateHeads: attention, and what becomes of its output without heads, as one work under one ticket.
#ifndef HEADLIGHT_SERVER_SERVICE_ABLATE_HEADS_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_ABLATE_HEADS_CALL_H_

#include <memory>
#include <optional>

#include "headlight/v1/analysis_service.pb.h"
#include "server/analysis/ablation_work.h"
#include "server/service/admitted_call.h"

namespace headlight {

// As AttendCall.
class AblateHeadsCall final : public AdmittedCall {
 public:
  using Request = v1::AblateHeadsRequest;
  using Response = v1::AblateHeadsResponse;

  explicit AblateHeadsCall(Shared& shared) : AdmittedCall(shared) {}

  // Errors: those of CheckProblem, MakePlan and Admission::Admit, with the paths of this request.
  absl::Status Accept(const Request& request, absl::Time deadline);
  void Compute(ComputePool::Done done);
  void Encode(Response* response);

 private:
  absl::Status Plan(const Request& request);
  absl::Status CheckCost(const AblationCost& cost) const;

  std::shared_ptr<const Layer> layer_;  // that data_ points into, where one was named
  AttentionData data_;
  Ablation ablation_;
  std::optional<ExecutionPlan> plan_;
  std::unique_ptr<AttentionWork> attention_;
  std::unique_ptr<AblationWork> ablated_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_ABLATE_HEADS_CALL_H_
