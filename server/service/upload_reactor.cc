#include "server/service/upload_reactor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/service/upload_call.h"
#include "server/service/watched_reactor.h"

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

class UploadReactor final : public WatchedReactor<grpc::ServerReadReactor<v1::UploadLayerRequest>> {
 public:
  UploadReactor(const Arrival& arrival, v1::UploadLayerResponse* response)
      : WatchedReactor(arrival),
        response_(response),
        watch_(arrival, v1::UploadLayerRequest::default_instance(), *response),
        call_(arrival.shared) {}

  void Start(absl::Status may) {
    if (may.ok()) may = shared_.admission.Gate();
    if (!may.ok()) return End(may);
    LookAfter(kTick);
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
    End(WhyCancelled());
  }

 private:
  enum class State : std::uint8_t { kReceiving, kComputing, kEnded };

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

  void Look() override {
    absl::Duration idle;
    {
      const absl::MutexLock lock(&mutex_);
      if (state_ != State::kReceiving) return;
      idle = absl::Now() - last_read_;
    }
    if (absl::Status aborted = shared_.admission.Aborted(); !aborted.ok()) return End(aborted);
    if (idle < most_idle_) return LookAfter(std::min(kTick, most_idle_ - idle));
    End(absl::DeadlineExceededError(
        absl::StrCat("no message of the upload came for ", absl::FormatDuration(most_idle_))));
  }

  v1::UploadLayerResponse* response_;
  CallWatch watch_;
  UploadCall call_;
  v1::UploadLayerRequest message_;
  bool known_ = false;
  std::atomic<std::int64_t> received_{0};
  absl::Mutex taking_;  // what one of gRPC's threads has taken, and the next goes on with
  absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kReceiving;
  absl::Time last_read_ ABSL_GUARDED_BY(mutex_) = absl::Now();
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
