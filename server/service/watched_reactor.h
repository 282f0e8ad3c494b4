// What the reactors of streams have in common.
#ifndef HEADLIGHT_SERVER_SERVICE_WATCHED_REACTOR_H_
#define HEADLIGHT_SERVER_SERVICE_WATCHED_REACTOR_H_

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/service/calls.h"

namespace headlight {

// A reactor of gRPC's, with a look at its client from time to time: no event tells that a client has fallen silent, or
// that the server ends. Deletes itself once gRPC and every look are done with it.
template <typename Reactor>
class WatchedReactor : public Reactor {
 public:
  void OnDone() final { Release(); }

 protected:
  // How often somebody looks. Well below the time in which a server that ends tells so.
  static constexpr absl::Duration kTick = absl::Milliseconds(500);

  explicit WatchedReactor(const Arrival& arrival)
      : shared_(arrival.shared),
        context_(arrival.context),
        deadline_(DeadlineOf(*arrival.context)),
        most_idle_(absl::Milliseconds(arrival.shared.limits.max_stream_idle_milliseconds)) {
    shared_.open_calls.fetch_add(1);
  }
  ~WatchedReactor() override = default;

  // In a thread of gRPC's; the reactor lives until it returns.
  virtual void Look() = 0;

  // Has somebody look in so long, instead of whoever was to look before; nobody after StopLooking.
  void LookAfter(absl::Duration wait) {
    const absl::MutexLock lock(&looking_);
    if (stopped_) return;
    if (alarm_ != nullptr) alarm_->Cancel();
    owners_.fetch_add(1);
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(absl::ToChronoTime(absl::Now() + wait), [this](bool fired) {
      if (fired) Look();
      Release();
    });
  }

  void StopLooking() {
    std::unique_ptr<grpc::Alarm> alarm;
    {
      const absl::MutexLock lock(&looking_);
      stopped_ = true;
      alarm = std::move(alarm_);
    }
    if (alarm != nullptr) alarm->Cancel();
  }

  // Once gRPC says that the call is cancelled.
  absl::Status WhyCancelled() const {
    if (absl::Status aborted = shared_.admission.Aborted(); !aborted.ok()) return aborted;
    if (absl::Now() >= deadline_) return absl::DeadlineExceededError("the deadline passed before the stream was done");
    return absl::CancelledError("the client went away");
  }

  Shared& shared_;
  grpc::CallbackServerContext* const context_;  // lives until OnDone
  const absl::Time deadline_;
  const absl::Duration most_idle_;

 private:
  // The call is open until all its owners are done, for the server ends when none is open.
  void Release() {
    if (owners_.fetch_sub(1) != 1) return;
    std::atomic<std::int64_t>& open_calls = shared_.open_calls;
    delete this;
    open_calls.fetch_sub(1);
  }

  std::atomic<int> owners_{1};  // gRPC and each alarm
  absl::Mutex looking_;
  bool stopped_ ABSL_GUARDED_BY(looking_) = false;
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(looking_);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_WATCHED_REACTOR_H_
