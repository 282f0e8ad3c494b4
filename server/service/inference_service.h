// The Open Inference Protocol v2, so that clients of KServe and Triton can call as they are.
#ifndef HEADLIGHT_SERVER_SERVICE_INFERENCE_SERVICE_H_
#define HEADLIGHT_SERVER_SERVICE_INFERENCE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>

#include "inference/open_inference.grpc.pb.h"
#include "server/service/door.h"
#include "server/service/inference_request.h"
#include "server/service/pipeline.h"

namespace headlight {

// One ModelInfer, as an AttendCall.
class ModelInferCall {
 public:
  using Request = inference::ModelInferRequest;
  using Response = inference::ModelInferResponse;

  explicit ModelInferCall(Shared& shared) : attend_(shared) {}

  // Errors: those of AttendCall, about inputs and parameters.
  absl::Status Accept(const Request& request, absl::Time deadline);
  void Compute(ComputePool::Done done) { attend_.Compute(std::move(done)); }
  void Encode(Response* response);

  const std::shared_ptr<CallControl>& control() const { return attend_.control(); }
  Stage stage() const { return attend_.stage(); }
  double flops_done() const { return attend_.flops_done(); }
  void Describe(CallRecord* record) const { attend_.Describe(record); }

 private:
  const Request* request_ = nullptr;
  InferenceAsked asked_;
  AttendCall attend_;
};

// Thread-safe. ModelInfer is counted as every method; the rest says what there is, and is not.
class InferenceService final : public inference::GRPCInferenceService::CallbackService {
 public:
  // All outlive every call; `ready` is whether calls are taken now.
  InferenceService(Shared& shared, const Door& door, std::function<bool()> ready)
      : shared_(shared), door_(door), ready_(std::move(ready)) {}

  grpc::ServerUnaryReactor* ServerLive(grpc::CallbackServerContext* context,
                                       const inference::ServerLiveRequest* request,
                                       inference::ServerLiveResponse* response) override;
  grpc::ServerUnaryReactor* ServerReady(grpc::CallbackServerContext* context,
                                        const inference::ServerReadyRequest* request,
                                        inference::ServerReadyResponse* response) override;
  grpc::ServerUnaryReactor* ModelReady(grpc::CallbackServerContext* context,
                                       const inference::ModelReadyRequest* request,
                                       inference::ModelReadyResponse* response) override;
  grpc::ServerUnaryReactor* ServerMetadata(grpc::CallbackServerContext* context,
                                           const inference::ServerMetadataRequest* request,
                                           inference::ServerMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelMetadata(grpc::CallbackServerContext* context,
                                          const inference::ModelMetadataRequest* request,
                                          inference::ModelMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const inference::ModelInferRequest* request,
                                       inference::ModelInferResponse* response) override;

 private:
  Shared& shared_;
  const Door& door_;
  const std::function<bool()> ready_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_INFERENCE_SERVICE_H_
