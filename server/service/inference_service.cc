#include "server/service/inference_service.h"

#include <algorithm>
#include <string>
#include <utility>

#include "server/service/calls.h"

namespace headlight {
namespace {

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const grpc::Status& status = grpc::Status::OK) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

// Whether there is such a model.
template <typename Request>
bool IsOurs(const Request& request) {
  return request.name() == kInferenceModel && (request.version().empty() || request.version() == kInferenceVersion);
}

void Describe(const char* name, int rank, inference::ModelMetadataResponse::TensorMetadata* tensor) {
  tensor->set_name(name);
  tensor->set_datatype("FP32");
  for (int i = 0; i < rank; ++i) tensor->add_shape(-1);
}

}  // namespace

absl::Status ModelInferCall::Accept(const Request& request, absl::Time deadline) {
  request_ = &request;
  CallTerms terms;
  DecodeInference(request, &asked_);
  terms.request_bytes = static_cast<std::int64_t>(request.ByteSizeLong());
  terms.priority = asked_.asked.priority();
  terms.deadline = std::min(deadline, terms.began + asked_.timeout);
  return InTermsOfInference(attend_.Accept(asked_.decoded, terms));
}

void ModelInferCall::Encode(Response* response) {
  v1::AttendResponse answer;
  attend_.Encode(&answer);
  EncodeInference(*request_, std::move(answer), response);
}

grpc::ServerUnaryReactor* InferenceService::ServerLive(grpc::CallbackServerContext* context,
                                                       const inference::ServerLiveRequest* /*request*/,
                                                       inference::ServerLiveResponse* response) {
  response->set_live(true);
  return Finish(context);
}

grpc::ServerUnaryReactor* InferenceService::ServerReady(grpc::CallbackServerContext* context,
                                                        const inference::ServerReadyRequest* /*request*/,
                                                        inference::ServerReadyResponse* response) {
  response->set_ready(ready_());
  return Finish(context);
}

grpc::ServerUnaryReactor* InferenceService::ModelReady(grpc::CallbackServerContext* context,
                                                       const inference::ModelReadyRequest* request,
                                                       inference::ModelReadyResponse* response) {
  response->set_ready(ready_() && IsOurs(*request));
  return Finish(context);
}

grpc::ServerUnaryReactor* InferenceService::ServerMetadata(grpc::CallbackServerContext* context,
                                                           const inference::ServerMetadataRequest* /*request*/,
                                                           inference::ServerMetadataResponse* response) {
  response->set_name("headlight");
  response->set_version(HEADLIGHT_VERSION);
  return Finish(context);
}

grpc::ServerUnaryReactor* InferenceService::ModelMetadata(grpc::CallbackServerContext* context,
                                                          const inference::ModelMetadataRequest* request,
                                                          inference::ModelMetadataResponse* response) {
  if (!IsOurs(*request)) {
    return Finish(context, {grpc::StatusCode::NOT_FOUND, "there is one model, attention, in version 1"});
  }
  response->set_name(kInferenceModel);
  response->add_versions(std::string(kInferenceVersion));
  response->set_platform("headlight");
  for (const char* name : {"query", "key", "value", "mask"}) Describe(name, 4, response->add_inputs());
  for (const char* name : {"output", "head_outputs", "weights"}) Describe(name, 4, response->add_outputs());
  Describe("log_sum_exp", 3, response->add_outputs());
  return Finish(context);
}

grpc::ServerUnaryReactor* InferenceService::ModelInfer(grpc::CallbackServerContext* context,
                                                       const inference::ModelInferRequest* request,
                                                       inference::ModelInferResponse* response) {
  return StartCall<ModelInferCall>({shared_, door_, Method::kModelInfer, context}, *request, response);
}

}  // namespace headlight
