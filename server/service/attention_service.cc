#include "server/service/attention_service.h"

#include <grpc/support/time.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "absl/base/config.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/errors.h"
#include "server/faults/fault.h"
#include "server/kernels/cpu_target.h"
#include "server/layers/demo.h"
#include "server/layers/layer.h"
#include "server/service/call_identity.h"
#include "server/service/encode.h"
#include "server/service/status.h"

namespace headlight {
namespace {

using google::protobuf::Message;

absl::string_view MetadataOf(const grpc::ServerContextBase& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  return found == context.client_metadata().end() ? absl::string_view()
                                                  : absl::string_view(found->second.data(), found->second.size());
}

// gRPC's own conversion overflows for deadlines beyond the year 2262, which clients do send.
absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  constexpr std::int64_t kFar = 9'000'000'000;  // seconds since 1970
  const gpr_timespec raw = gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_REALTIME);
  if (raw.tv_sec >= kFar) return absl::InfiniteFuture();
  return absl::FromUnixSeconds(raw.tv_sec) + absl::Nanoseconds(raw.tv_nsec);
}

// A call that has come in.
struct Arrival {
  Shared& shared;
  const Door& door;
  Method method;
  grpc::CallbackServerContext* context;
};

// Counts a call and logs it, from its arrival to its status. The request, the answer and the context outlive it.
class CallWatch {
 public:
  CallWatch(const Arrival& arrival, const Message& request, const Message& response)
      : shared_(arrival.shared), method_(arrival.method), request_(request), response_(response) {
    shared_.metrics.CallStarted(method_);
    request_id_ = RequestIdFrom(MetadataOf(*arrival.context, "x-request-id"));
    traceparent_ = TraceparentFrom(MetadataOf(*arrival.context, "traceparent"));
    arrival.context->AddInitialMetadata("x-request-id", request_id_);
  }

  const std::string& request_id() const { return request_id_; }

  // `describe` adds what is known of what was computed.
  void Finish(const absl::Status& status, absl::FunctionRef<void(CallRecord*)> describe) {
    const double seconds = absl::ToDoubleSeconds(absl::Now() - began_);
    shared_.metrics.CallFinished(method_, status.code(), seconds);
    if (!status.ok()) shared_.metrics.Failed(DetailsOf(status).reason);
    shared_.call_log.Ended(status.ok(), [&] {
      CallRecord record;
      record.method = method_;
      record.request_id = request_id_;
      record.traceparent = traceparent_;
      record.code = status.code();
      if (!status.ok()) record.reason = DetailsOf(status).reason;
      record.seconds = seconds;
      record.request_bytes = static_cast<std::int64_t>(request_.ByteSizeLong());
      if (status.ok()) record.response_bytes = static_cast<std::int64_t>(response_.ByteSizeLong());
      describe(&record);
      return record;
    });
  }

 private:
  Shared& shared_;
  const Method method_;
  const Message& request_;
  const Message& response_;
  const absl::Time began_ = absl::Now();
  std::string request_id_, traceparent_;
};

// One call that computes. Deletes itself when gRPC is done with it.
template <typename Call>
class ComputeReactor final : public grpc::ServerUnaryReactor {
 public:
  ComputeReactor(const Arrival& arrival, const typename Call::Request& request, const typename Call::Response& response)
      : shared_(arrival.shared), context_(arrival.context), watch_(arrival, request, response), call_(arrival.shared) {
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
    if (status.code() == absl::StatusCode::kInternal) {
      spdlog::error("call {} failed: {}", watch_.request_id(), std::string(status.message()));
    }
    watch_.Finish(status, [this](CallRecord* record) { call_.Describe(record); });
    // What gRPC's own retries go by; RetryInfo says the same to people.
    const double retry_after = status.ok() ? 0 : DetailsOf(status).retry_after_seconds;
    if (retry_after > 0) {
      context_->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(static_cast<int>(retry_after * 1000)));
    }
    Finish(ToGrpcStatus(status));
  }

  Shared& shared_;
  grpc::CallbackServerContext* context_;  // lives until OnDone
  CallWatch watch_;
  Call call_;
  absl::Mutex mutex_;
  absl::Time cancelled_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  std::shared_ptr<CallControl> control_ ABSL_GUARDED_BY(mutex_);
};

// Who may not call is told so before anything is looked at. And gRPC holds a connection to the limit of metadata only
// when the client has acknowledged it, which may be after its first calls.
absl::Status MayEnter(const Arrival& arrival) {
  if (absl::Status may = arrival.door.Check(*arrival.context); !may.ok()) return may;
  constexpr std::size_t kOverhead = 32;  // of an entry, as HTTP/2 counts it
  std::size_t bytes = 0;
  for (const auto& [key, value] : arrival.context->client_metadata()) bytes += key.size() + value.size() + kOverhead;
  const std::int64_t most = arrival.shared.limits.max_metadata_bytes;
  Violations violations;
  if (static_cast<std::int64_t>(bytes) > most) {
    violations.Add("metadata", absl::StrCat(bytes, " bytes"), absl::StrCat("at most ", most, " bytes"));
  }
  return violations.ToStatus();
}

// A call that is answered at once, by `work`. Every method comes through here or through StartCall.
grpc::ServerUnaryReactor* Answer(const Arrival& arrival, const Message& request, const Message& response,
                                 absl::FunctionRef<absl::Status()> work) {
  CallWatch watch(arrival, request, response);
  absl::Status status = MayEnter(arrival);
  try {
    if (status.ok()) status = work();
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("not enough memory for this call now");
  }
  watch.Finish(status, [](CallRecord*) {});
  grpc::ServerUnaryReactor* reactor = arrival.context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

template <typename Call>
grpc::ServerUnaryReactor* StartCall(const Arrival& arrival, const typename Call::Request& request,
                                    typename Call::Response* response) {
  if (const absl::Status may = MayEnter(arrival); !may.ok()) {
    return Answer(arrival, request, *response, [&may] { return may; });
  }
  auto* reactor = new ComputeReactor<Call>(arrival, request, *response);
  reactor->Start(request, response, DeadlineOf(*arrival.context));
  return reactor;
}

}  // namespace

AttentionService::AttentionService(Shared& shared, const Door& door) : shared_(shared), door_(door) {
  SetMessageAllocatorFor_Attend(&attend_messages_);
  SetMessageAllocatorFor_CompareAlgorithms(&compare_messages_);
}

grpc::ServerUnaryReactor* AttentionService::Attend(grpc::CallbackServerContext* context,
                                                   const v1::AttendRequest* request, v1::AttendResponse* response) {
  return StartCall<AttendCall>({shared_, door_, Method::kAttend, context}, *request, response);
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
