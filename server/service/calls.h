// What every RPC goes through: its arrival is counted and logged, the door is asked, and what computes is a reactor
// that no gRPC thread waits for.
#ifndef HEADLIGHT_SERVER_SERVICE_CALLS_H_
#define HEADLIGHT_SERVER_SERVICE_CALLS_H_

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/base/errors.h"
#include "server/faults/fault.h"
#include "server/service/door.h"
#include "server/service/pipeline.h"
#include "server/service/status.h"

namespace headlight {

// A call that has come in.
struct Arrival {
  Shared& shared;
  const Door& door;
  Method method;
  grpc::CallbackServerContext* context;
};

// When the client gives up; InfiniteFuture where it does not.
absl::Time DeadlineOf(const grpc::ServerContextBase& context);

// Counts a call and logs it, from its arrival to its status. The request, the answer and the context outlive it.
class CallWatch {
 public:
  CallWatch(const Arrival& arrival, const google::protobuf::Message& request,
            const google::protobuf::Message& response);

  const std::string& request_id() const { return request_id_; }

  // Before the first message of a stream: adds to the answer's metadata what Finish otherwise adds at the end.
  void Greet();

  // Just before the reactor's own Finish: adds to the answer's metadata what a caller needs of it. `describe` adds what
  // is known of what was computed.
  void Finish(const absl::Status& status, absl::FunctionRef<void(CallRecord*)> describe);

 private:
  void AddMetadata(const absl::Status& status) const;

  Shared& shared_;
  grpc::CallbackServerContext* const context_;
  const Method method_;
  const google::protobuf::Message& request_;
  const google::protobuf::Message& response_;
  const absl::Time began_ = absl::Now();
  std::string request_id_, traceparent_;
  bool greeted_ = false;
};

// What f returns, or what it throws as a status.
template <typename F>
absl::Status Guarded(F f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("not enough memory for this call now");
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

// One call that computes, AttendCall being the model of what it is of. Deletes itself when gRPC is done with it.
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

// Who may not call is told so before anything is looked at; so is a call with too much metadata.
absl::Status MayEnter(const Arrival& arrival);

// A call that is answered at once, by `work`. Every method comes through here or through StartCall.
grpc::ServerUnaryReactor* Answer(const Arrival& arrival, const google::protobuf::Message& request,
                                 const google::protobuf::Message& response, absl::FunctionRef<absl::Status()> work);

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

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_CALLS_H_
