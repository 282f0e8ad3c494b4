#include "server/service/upload_reactor.h"

#include <grpcpp/alarm.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/service/upload_call.h"

namespace headlight {
namespace {

UploadOutcome OutcomeOf(const absl::Status& status, bool known) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return known ? UploadOutcome::kKnown : UploadOutcome::kStored;
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded: return UploadOutcome::kAborted;
    default: return UploadOutcome::kRefused;
  }
}

class UploadReactor final : public grpc::ServerReadReactor<v1::UploadLayerRequest> {
 public:
  UploadReactor(const Arrival& arrival, v1::UploadLayerResponse* response)
      : shared_(arrival.shared),
        context_(arrival.context),
        deadline_(DeadlineOf(*arrival.context)),
        most_idle_(absl::Milliseconds(arrival.shared.limits.max_stream_idle_milliseconds)),
        response_(response),
        watch_(arrival, v1::UploadLayerRequest::default_instance(), *response),
        call_(arrival.shared) {
    shared_.open_calls.fetch_add(1);
  }

  void Start(absl::Status may) {
    if (may.ok()) may = shared_.admission.Gate();
    if (!may.ok()) return End(may);
    {
      const absl::MutexLock lock(&mutex_);
      LookAfter(most_idle_);
    }
    StartRead(&message_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return AllCame();
    received_.fetch_add(static_cast<std::int64_t>(message_.ByteSizeLong()));
    {
      const absl::MutexLock lock(&mutex_);
      last_read_ = absl::Now();
      if (state_ != State::kReceiving) return;
    }
    const absl::Status taken = Guarded([this] {
      const absl::MutexLock lock(&taking_);
      return call_.Take(message_);
    });
    if (!taken.ok()) return End(taken);
    StartRead(&message_);
  }

  void OnCancel() override {
    {
      const absl::MutexLock lock(&mutex_);
      if (control_ != nullptr) control_->Cancel();
      if (state_ != State::kReceiving) return;
    }
    End(GivenUp());
  }

  void OnDone() override { Release(); }

 private:
  enum class State : std::uint8_t { kReceiving, kComputing, kEnded };

  absl::Status GivenUp() const {
    if (absl::Now() >= deadline_) return absl::DeadlineExceededError("the deadline passed before the file had come");
    return absl::CancelledError("the client went away");
  }

  // The client has sent its last message, or is gone.
  void AllCame() {
    if (context_->IsCancelled()) return OnCancel();
    {
      const absl::MutexLock lock(&mutex_);
      if (state_ != State::kReceiving) return;
      state_ = State::kComputing;
    }
    StopLooking();
    const absl::Status begun = Guarded([this] {
      {
        const absl::MutexLock lock(&taking_);
        if (absl::Status accepted = call_.Accept(deadline_); !accepted.ok()) return accepted;
      }
      {
        const absl::MutexLock lock(&mutex_);
        control_ = call_.control();
      }
      if (context_->IsCancelled()) call_.control()->Cancel();
      call_.Compute([this](const absl::Status& status) { Computed(status); });
      return absl::OkStatus();
    });
    if (!begun.ok()) End(begun);  // else this may be gone by now
  }

  void Computed(absl::Status status) {
    if (status.ok()) {
      status = Guarded([this] {
        call_.Encode(response_);
        return absl::OkStatus();
      });
    }
    known_ = status.ok() && call_.known();
    End(status);
  }

  void End(const absl::Status& status) {
    State before = State::kEnded;
    {
      const absl::MutexLock lock(&mutex_);
      std::swap(before, state_);
    }
    if (before == State::kEnded) return;
    StopLooking();
    if (status.code() == absl::StatusCode::kInternal) {
      spdlog::error("call {} failed: {}", watch_.request_id(), std::string(status.message()));
    }
    shared_.metrics.Uploaded(OutcomeOf(status, known_));
    watch_.Finish(status, [this](CallRecord* record) { record->request_bytes = received_.load(); });
    Finish(ToGrpcStatus(status));
  }

  // Has somebody look whether messages still come, in so long.
  void LookAfter(absl::Duration wait) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    owners_.fetch_add(1);
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(absl::ToChronoTime(absl::Now() + wait), [this](bool fired) {
      if (fired) Look();
      Release();
    });
  }

  void Look() {
    {
      const absl::MutexLock lock(&mutex_);
      if (state_ != State::kReceiving) return;
      const absl::Duration idle = absl::Now() - last_read_;
      if (idle < most_idle_) return LookAfter(most_idle_ - idle);
    }
    End(absl::DeadlineExceededError(
        absl::StrCat("no message of the upload came for ", absl::FormatDuration(most_idle_))));
  }

  void StopLooking() {
    std::unique_ptr<grpc::Alarm> alarm;
    {
      const absl::MutexLock lock(&mutex_);
      alarm = std::move(alarm_);
    }
    if (alarm != nullptr) alarm->Cancel();
  }

  // gRPC and each alarm own this. The call is open until all are done, for the server ends when none is.
  void Release() {
    if (owners_.fetch_sub(1) != 1) return;
    std::atomic<std::int64_t>& open_calls = shared_.open_calls;
    delete this;
    open_calls.fetch_sub(1);
  }

  Shared& shared_;
  grpc::CallbackServerContext* context_;  // lives until OnDone
  const absl::Time deadline_;
  const absl::Duration most_idle_;
  v1::UploadLayerResponse* response_;
  CallWatch watch_;
  UploadCall call_;
  v1::UploadLayerRequest message_;
  bool known_ = false;
  std::atomic<std::int64_t> received_{0};
  std::atomic<int> owners_{1};
  absl::Mutex taking_;  // what one of gRPC's threads has taken, and the next goes on with
  absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kReceiving;
  absl::Time last_read_ ABSL_GUARDED_BY(mutex_) = absl::Now();
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<CallControl> control_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

grpc::ServerReadReactor<v1::UploadLayerRequest>* StartUpload(const Arrival& arrival,
                                                             v1::UploadLayerResponse* response) {
  auto* reactor = new UploadReactor(arrival, response);
  absl::Status may = MayEnter(arrival);
  if (may.ok()) may = arrival.door.CheckUpload(*arrival.context);
  reactor->Start(may);
  return reactor;
}

}  // namespace headlight
