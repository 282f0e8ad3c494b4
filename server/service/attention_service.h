// The RPCs of headlight.v1.AttentionService.
#ifndef HEADLIGHT_SERVER_SERVICE_ATTENTION_SERVICE_H_
#define HEADLIGHT_SERVER_SERVICE_ATTENTION_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "headlight/v1/attention_service.grpc.pb.h"
#include "server/service/arena_messages.h"
#include "server/service/door.h"
#include "server/service/pipeline.h"

namespace headlight {

// AttendStream as bytes, the other methods as messages.
template <typename Methods>
using WithUnaryMethods = v1::AttentionService::WithCallbackMethod_Attend<
    v1::AttentionService::WithCallbackMethod_PlanAttention<v1::AttentionService::WithCallbackMethod_CompareAlgorithms<
        v1::AttentionService::WithCallbackMethod_MergePartials<v1::AttentionService::WithCallbackMethod_GetDemo<
            v1::AttentionService::WithCallbackMethod_GetServerInfo<Methods>>>>>>;
using AttentionMethods =
    WithUnaryMethods<v1::AttentionService::WithRawCallbackMethod_AttendStream<v1::AttentionService::Service>>;

// Callback service: no gRPC thread waits or computes. Thread-safe.
class AttentionService final : public AttentionMethods {
 public:
  // Both outlive every call.
  AttentionService(Shared& shared, const Door& door);

  grpc::ServerUnaryReactor* Attend(grpc::CallbackServerContext* context, const v1::AttendRequest* request,
                                   v1::AttendResponse* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* AttendStream(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* PlanAttention(grpc::CallbackServerContext* context, const v1::PlanAttentionRequest* request,
                                          v1::PlanAttentionResponse* response) override;
  grpc::ServerUnaryReactor* CompareAlgorithms(grpc::CallbackServerContext* context,
                                              const v1::CompareAlgorithmsRequest* request,
                                              v1::CompareAlgorithmsResponse* response) override;
  grpc::ServerUnaryReactor* MergePartials(grpc::CallbackServerContext* context, const v1::MergePartialsRequest* request,
                                          v1::MergePartialsResponse* response) override;
  grpc::ServerUnaryReactor* GetDemo(grpc::CallbackServerContext* context, const v1::GetDemoRequest* request,
                                    v1::GetDemoResponse* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context, const v1::GetServerInfoRequest* request,
                                          v1::GetServerInfoResponse* response) override;

 private:
  Shared& shared_;
  const Door& door_;
  ArenaMessages<v1::AttendRequest, v1::AttendResponse> attend_messages_;
  ArenaMessages<v1::CompareAlgorithmsRequest, v1::CompareAlgorithmsResponse> compare_messages_;
  ArenaMessages<v1::MergePartialsRequest, v1::MergePartialsResponse> merge_messages_;
};

// Versions of the libraries in use, by name.
std::map<std::string, std::string> LibraryVersions();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_ATTENTION_SERVICE_H_
