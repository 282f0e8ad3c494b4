#include "server/service/attention_service.h"

#include <string>
#include <utility>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "server/kernels/cpu_target.h"
#include "server/layers/demo.h"
#include "server/service/calls.h"
#include "server/service/encode.h"
#include "server/service/merge_call.h"
#include "server/service/stream_reactor.h"

namespace headlight {
AttentionService::AttentionService(Shared& shared, const Door& door) : shared_(shared), door_(door) {
  SetMessageAllocatorFor_Attend(&attend_messages_);
  SetMessageAllocatorFor_CompareAlgorithms(&compare_messages_);
  SetMessageAllocatorFor_MergePartials(&merge_messages_);
}

grpc::ServerUnaryReactor* AttentionService::Attend(grpc::CallbackServerContext* context,
                                                   const v1::AttendRequest* request, v1::AttendResponse* response) {
  return StartCall<AttendCall>({shared_, door_, Method::kAttend, context}, *request, response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* AttentionService::AttendStream(
    grpc::CallbackServerContext* context) {
  return StartStream({shared_, door_, Method::kAttendStream, context});
}

grpc::ServerUnaryReactor* AttentionService::PlanAttention(grpc::CallbackServerContext* context,
                                                          const v1::PlanAttentionRequest* request,
                                                          v1::PlanAttentionResponse* response) {
  return Answer({shared_, door_, Method::kPlanAttention, context}, *request, *response,
                [&] { return PlanCall(shared_, *request, response); });
}

grpc::ServerUnaryReactor* AttentionService::CompareAlgorithms(grpc::CallbackServerContext* context,
                                                              const v1::CompareAlgorithmsRequest* request,
                                                              v1::CompareAlgorithmsResponse* response) {
  return StartCall<CompareCall>({shared_, door_, Method::kCompareAlgorithms, context}, *request, response);
}

grpc::ServerUnaryReactor* AttentionService::MergePartials(grpc::CallbackServerContext* context,
                                                          const v1::MergePartialsRequest* request,
                                                          v1::MergePartialsResponse* response) {
  return StartCall<MergeCall>({shared_, door_, Method::kMergePartials, context}, *request, response);
}

grpc::ServerUnaryReactor* AttentionService::GetDemo(grpc::CallbackServerContext* context,
                                                    const v1::GetDemoRequest* request, v1::GetDemoResponse* response) {
  return Answer({shared_, door_, Method::kGetDemo, context}, *request, *response, [&] {
    const Demo& demo = headlight::GetDemo();
    response->set_layer(demo.layer.name());
    response->mutable_tokens()->Assign(demo.tokens.begin(), demo.tokens.end());
    EncodeTensor(OwnedTensor(demo.embeddings), response->mutable_embeddings());
    response->mutable_head_descriptions()->Assign(demo.head_descriptions.begin(), demo.head_descriptions.end());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AttentionService::GetServerInfo(grpc::CallbackServerContext* context,
                                                          const v1::GetServerInfoRequest* request,
                                                          v1::GetServerInfoResponse* response) {
  return Answer({shared_, door_, Method::kGetServerInfo, context}, *request, *response, [&] {
    response->set_version(HEADLIGHT_VERSION);
    response->set_cpu_target(std::string(NameOf(ActiveCpuTarget())));
    for (const CpuTarget target : AvailableCpuTargets()) {
      response->add_available_cpu_targets(std::string(NameOf(target)));
    }
    for (const auto& [name, version] : LibraryVersions()) (*response->mutable_library_versions())[name] = version;
    response->set_threads(static_cast<std::uint32_t>(shared_.pool.workers()));
    for (const auto& [name, value] : shared_.limits.Table()) {
      v1::Limit* limit = response->add_limits();
      limit->set_name(std::string(name));
      limit->set_value(static_cast<std::uint64_t>(value));
    }
    for (const auto& layer : shared_.layers.layers()) response->add_layers(layer->name());
    return absl::OkStatus();
  });
}

std::map<std::string, std::string> LibraryVersions() {
  constexpr int kProtobuf = GOOGLE_PROTOBUF_VERSION;
  return {{"oneDNN", MatmulLibraryVersion()},
          {"gRPC", grpc::Version()},
          {"protobuf", absl::StrCat(kProtobuf / 1'000'000, ".", kProtobuf / 1000 % 1000, ".", kProtobuf % 1000)},
          {"highway", SimdLibraryVersion()},
          {"abseil", absl::StrCat(ABSL_LTS_RELEASE_VERSION, ".", ABSL_LTS_RELEASE_PATCH_LEVEL)}};
}

}  // namespace headlight
