#include "server/service/attention_service.h"

#include <spdlog/spdlog.h>

#include <atomic>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/errors.h"
#include "server/faults/fault.h"
#include "server/kernels/cpu_target.h"
#include "server/layers/demo.h"
#include "server/layers/layer.h"
#include "server/service/encode.h"
#include "server/service/status.h"

namespace headlight {
namespace {

// Counts a call from its arrival to its status.
class CallCounter {
 public:
  CallCounter(Metrics& metrics, Method method) : metrics_(metrics), method_(method), began_(absl::Now()) {
    metrics_.CallStarted(method_);
  }

  void Finish(const absl::Status& status) {
    metrics_.CallFinished(method_, status.code(), absl::ToDoubleSeconds(absl::Now() - began_));
    if (!status.ok()) metrics_.Failed(DetailsOf(status).reason);
  }

 private:
  Metrics& metrics_;
  Method method_;
  absl::Time began_;
};

// One call that computes. Deletes itself when gRPC is done with it.
template <typename Call>
class ComputeReactor final : public grpc::ServerUnaryReactor {
 public:
  ComputeReactor(Shared& shared, Method method, grpc::CallbackServerContext* context)
      : shared_(shared), context_(context), counter_(shared.metrics, method), call_(shared) {
    shared_.open_calls.fetch_add(1);
  }

  void Start(const typename Call::Request& request, typename Call::Response* response, absl::Time deadline) {
    // Counted first and asked then, so that whoever closes and then sees no open call has missed none.
    absl::Status accepted = shared_.admission.Gate();
    if (accepted.ok()) {
      accepted = Guarded([&] {
        HEADLIGHT_FAULT("accept");
        return call_.Accept(request, deadline);
      });
    }
    if (!accepted.ok()) return End(accepted);
    {
      const absl::MutexLock lock(&mutex_);
      control_ = call_.control();
      if (cancelled_ != absl::InfiniteFuture()) control_->Cancel();
    }
    const absl::Status begun = Guarded([&] {
      HEADLIGHT_FAULT("ticket");
      call_.Compute([this, response](const absl::Status& status) { Computed(status, response); });
      return absl::OkStatus();
    });
    if (!begun.ok()) End(begun);  // else this may be gone by now
  }

  void OnCancel() override {
    const absl::MutexLock lock(&mutex_);
    cancelled_ = absl::Now();
    if (control_ != nullptr) control_->Cancel();
  }

  void OnDone() override {
    std::atomic<std::int64_t>& open_calls = shared_.open_calls;
    delete this;
    open_calls.fetch_sub(1);
  }

 private:
  // What f returns, or what it throws as a status.
  template <typename F>
  static absl::Status Guarded(F f) {
    try {
      return f();
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError("not enough memory for this call now");
    } catch (const std::exception& error) {
      return absl::InternalError(error.what());
    }
  }

  void Computed(absl::Status status, typename Call::Response* response) {
    if (status.ok()) {
      status = Guarded([&] {
        HEADLIGHT_FAULT("encode");
        call_.Encode(response);
        return absl::OkStatus();
      });
    }
    if (status.code() == absl::StatusCode::kCancelled) {
      shared_.metrics.Cancelled(call_.stage(), CancelCause::kClient, call_.flops_done());
      const absl::MutexLock lock(&mutex_);
      shared_.metrics.CancelTook(absl::ToDoubleSeconds(absl::Now() - cancelled_));
    }
    if (status.code() == absl::StatusCode::kDeadlineExceeded) {
      shared_.metrics.Cancelled(call_.stage(), CancelCause::kDeadline, call_.flops_done());
    }
    End(status);
  }

  void End(const absl::Status& status) {
    if (status.code() == absl::StatusCode::kInternal) spdlog::error("call failed: {}", std::string(status.message()));
    counter_.Finish(status);
    // What gRPC's own retries go by; RetryInfo says the same to people.
    const double retry_after = status.ok() ? 0 : DetailsOf(status).retry_after_seconds;
    if (retry_after > 0) {
      context_->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(static_cast<int>(retry_after * 1000)));
    }
    Finish(ToGrpcStatus(status));
  }

  Shared& shared_;
  grpc::CallbackServerContext* context_;  // lives until OnDone
  CallCounter counter_;
  Call call_;
  absl::Mutex mutex_;
  absl::Time cancelled_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  std::shared_ptr<CallControl> control_ ABSL_GUARDED_BY(mutex_);
};

grpc::ServerUnaryReactor* End(Shared& shared, Method method, grpc::CallbackServerContext* context,
                              const absl::Status& status) {
  CallCounter(shared.metrics, method).Finish(status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

// Who may not call is told so before anything is looked at. Every method comes through here or through Answer.
template <typename Call>
grpc::ServerUnaryReactor* StartCall(Shared& shared, const Door& door, Method method,
                                    grpc::CallbackServerContext* context, const typename Call::Request* request,
                                    typename Call::Response* response) {
  if (const absl::Status may = door.Check(*context); !may.ok()) return End(shared, method, context, may);
  auto* reactor = new ComputeReactor<Call>(shared, method, context);
  reactor->Start(*request, response, absl::FromChrono(context->deadline()));
  return reactor;
}

// A call that is answered at once, by `work`.
template <typename Work>
grpc::ServerUnaryReactor* Answer(Shared& shared, const Door& door, Method method, grpc::CallbackServerContext* context,
                                 const Work& work) {
  absl::Status status = door.Check(*context);
  try {
    if (status.ok()) status = work();
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("not enough memory for this call now");
  }
  return End(shared, method, context, status);
}

}  // namespace

AttentionService::AttentionService(Shared& shared, const Door& door) : shared_(shared), door_(door) {
  SetMessageAllocatorFor_Attend(&attend_messages_);
  SetMessageAllocatorFor_CompareAlgorithms(&compare_messages_);
}

grpc::ServerUnaryReactor* AttentionService::Attend(grpc::CallbackServerContext* context,
                                                   const v1::AttendRequest* request, v1::AttendResponse* response) {
  return StartCall<AttendCall>(shared_, door_, Method::kAttend, context, request, response);
}

grpc::ServerUnaryReactor* AttentionService::PlanAttention(grpc::CallbackServerContext* context,
                                                          const v1::PlanAttentionRequest* request,
                                                          v1::PlanAttentionResponse* response) {
  return Answer(shared_, door_, Method::kPlanAttention, context, [&] { return PlanCall(shared_, *request, response); });
}

grpc::ServerUnaryReactor* AttentionService::CompareAlgorithms(grpc::CallbackServerContext* context,
                                                              const v1::CompareAlgorithmsRequest* request,
                                                              v1::CompareAlgorithmsResponse* response) {
  return StartCall<CompareCall>(shared_, door_, Method::kCompareAlgorithms, context, request, response);
}

grpc::ServerUnaryReactor* AttentionService::GetDemo(grpc::CallbackServerContext* context,
                                                    const v1::GetDemoRequest* /*request*/,
                                                    v1::GetDemoResponse* response) {
  return Answer(shared_, door_, Method::kGetDemo, context, [&] {
    const Demo& demo = headlight::GetDemo();
    response->set_layer(demo.layer.name());
    response->mutable_tokens()->Assign(demo.tokens.begin(), demo.tokens.end());
    EncodeTensor(OwnedTensor(demo.embeddings), response->mutable_embeddings());
    response->mutable_head_descriptions()->Assign(demo.head_descriptions.begin(), demo.head_descriptions.end());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AttentionService::GetServerInfo(grpc::CallbackServerContext* context,
                                                          const v1::GetServerInfoRequest* /*request*/,
                                                          v1::GetServerInfoResponse* response) {
  return Answer(shared_, door_, Method::kGetServerInfo, context, [&] {
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
    for (const std::string& layer : LayerNames()) response->add_layers(layer);
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
