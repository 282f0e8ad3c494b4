// One MergePartials.
#ifndef HEADLIGHT_SERVER_SERVICE_MERGE_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_MERGE_CALL_H_

#include <memory>

#include "headlight/v1/attention_service.pb.h"
#include "server/engine/merge.h"
#include "server/service/admitted_call.h"

namespace headlight {

// What the request asks for, with views of its bytes. Errors: INVALID_ARGUMENT, every violation at once.
absl::StatusOr<MergeProblem> CheckMerge(const v1::MergePartialsRequest& request, const Limits& limits);

// As AttendCall.
class MergeCall final : public AdmittedCall {
 public:
  using Request = v1::MergePartialsRequest;
  using Response = v1::MergePartialsResponse;

  explicit MergeCall(Shared& shared) : AdmittedCall(shared) {}

  // Errors: those of CheckMerge and Admission::Admit.
  absl::Status Accept(const Request& request, absl::Time deadline);
  void Encode(Response* response);

 private:
  MergeProblem problem_;
  std::unique_ptr<MergeWork> merge_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_MERGE_CALL_H_
