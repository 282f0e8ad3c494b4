// A call that nobody waits for, with its attempts.
#ifndef HEADLIGHT_CLIENT_CPP_ASYNC_CALL_H_
#define HEADLIGHT_CLIENT_CPP_ASYNC_CALL_H_

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "client/cpp/retries.h"

namespace headlight::client {

// Keeps itself until `done` was called, exactly once. Thread-safe.
template <typename Request, typename Response>
class AsyncCall final : public PendingCall::Call, public std::enable_shared_from_this<AsyncCall<Request, Response>> {
 public:
  using Done = std::function<void(absl::StatusOr<Response>)>;
  // Begins an attempt on what the arguments point to, and calls back when it has ended.
  using Begin = std::function<void(grpc::ClientContext*, const Request*, Response*, std::function<void(grpc::Status)>)>;

  AsyncCall(Attempts attempts, Request request, Begin begin, Done done)
      : request_(std::move(request)),
        begin_(std::move(begin)),
        done_(std::move(done)),
        attempts_(std::move(attempts)) {}

  void Try() {
    const absl::MutexLock lock(&mutex_);
    context_ = attempts_.Next();
    if (cancelled_) context_->TryCancel();
    response_.Clear();
    begin_(context_.get(), &request_, &response_,
           [self = this->shared_from_this()](const grpc::Status& outcome) { self->Ended(outcome); });
  }

  void Cancel() override {
    const absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    context_->TryCancel();
    alarm_.Cancel();
  }

 private:
  void Ended(const grpc::Status& outcome) {
    if (std::optional<absl::StatusOr<Response>> answer = AnswerFor(outcome)) done_(*std::move(answer));
  }

  // None where it is tried again.
  std::optional<absl::StatusOr<Response>> AnswerFor(const grpc::Status& outcome) {
    const absl::MutexLock lock(&mutex_);
    if (outcome.ok()) return std::move(response_);
    absl::Status status = StatusFromGrpc(outcome, context_->GetServerTrailingMetadata());
    const std::optional<absl::Duration> delay = attempts_.DelayAfter(status);
    if (!delay.has_value()) return status;
    if (cancelled_) return absl::CancelledError("cancelled before it was tried again");
    alarm_.Set(absl::ToChronoTime(absl::Now() + *delay),
               [self = this->shared_from_this()](bool /*ok*/) { self->Try(); });
    return std::nullopt;
  }

  const Request request_;
  const Begin begin_;  // holds the channel, and so goes after whatever uses it: what `done` keeps may be a client
  const Done done_;
  absl::Mutex mutex_;  // of what one of gRPC's threads has done, and the next goes on with
  Attempts attempts_ ABSL_GUARDED_BY(mutex_);
  Response response_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);
  grpc::Alarm alarm_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CPP_ASYNC_CALL_H_
