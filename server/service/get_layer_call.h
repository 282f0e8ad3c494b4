// One GetLayer: copying the matrices of a large layer is no work for a gRPC thread.
#ifndef HEADLIGHT_SERVER_SERVICE_GET_LAYER_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_GET_LAYER_CALL_H_

#include <memory>

#include "headlight/v1/layer_service.pb.h"
#include "server/service/admitted_call.h"

namespace headlight {

class GetLayerCall : public AdmittedCall {
 public:
  using Request = v1::GetLayerRequest;
  using Response = v1::GetLayerResponse;

  explicit GetLayerCall(Shared& shared) : AdmittedCall(shared) {}

  // Errors: NOT_FOUND, INVALID_ARGUMENT (the answer would be too large), those of Admission::Admit.
  absl::Status Accept(const Request& request, absl::Time deadline);
  void Encode(Response* response);

 private:
  std::shared_ptr<const Layer> layer_;
  std::shared_ptr<const Stack> stack_;
  bool weights_ = false;
  std::unique_ptr<PhasedWork> none_;  // all that is to be done is the answer
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_GET_LAYER_CALL_H_
