#include "server/service/stream_reactor.h"

#include <grpcpp/alarm.h>

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/service/attend_stream_call.h"
#include "server/service/stream_wire.h"

namespace headlight {
namespace {

// How often the client of a call that computes is told how far it is.
constexpr absl::Duration kTick = absl::Milliseconds(500);

// Whatever uses the call or begins an operation of gRPC's stands between Enter and Leave. Once the stream has ended
// nobody enters, and the last to leave finishes it: no operation is begun after gRPC's Finish, and nobody is in the
// call when it is given back.
class StreamReactor final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit StreamReactor(const Arrival& arrival)
      : shared_(arrival.shared),
        context_(arrival.context),
        deadline_(DeadlineOf(*arrival.context)),
        most_idle_(absl::Milliseconds(arrival.shared.limits.max_stream_idle_milliseconds)),
        watch_(arrival, v1::AttendStreamRequest::default_instance(), v1::AttendStreamResponse::default_instance()) {
    shared_.open_calls.fetch_add(1);
    call_.emplace(arrival.shared, deadline_, [this] { Pump(/*tick=*/false); });
  }

  void Start(absl::Status may) {
    if (!Enter()) return;
    if (may.ok()) may = shared_.admission.Gate();
    if (may.ok()) {
      LookAfter(most_idle_);
      StartRead(&message_);
    } else {
      End(may);
    }
    Leave();
  }

  void OnReadDone(bool ok) override {
    if (!Enter()) return;
    ok ? Take() : AllCame();
    Leave();
  }

  void OnWriteDone(bool ok) override {
    const bool enters = Enter();
    bool waits = false;
    {
      const absl::MutexLock lock(&mutex_);
      write_began_ = absl::InfiniteFuture();
      waits = std::exchange(status_waits_, false);
    }
    if (waits) SendStatus();
    if (!enters) return;
    if (ok) Write();  // else OnCancel comes, too
    Leave();
  }

  void OnCancel() override {
    if (!Enter()) return;
    GiveUp(absl::Now() >= deadline_ ? absl::DeadlineExceededError("the deadline passed before the stream was done")
                                    : absl::CancelledError("the client went away"));
    Leave();
  }

  void OnDone() override { Release(); }

 private:
  bool Enter() {
    const absl::MutexLock lock(&mutex_);
    if (ended_.has_value()) return false;
    ++inside_;
    return true;
  }

  void Leave() {
    {
      const absl::MutexLock lock(&mutex_);
      if (--inside_ > 0 || !ended_.has_value()) return;
    }
    FinishCall();
  }

  // The first status is the stream's.
  void End(const absl::Status& status) {
    const absl::MutexLock lock(&mutex_);
    if (!ended_.has_value()) ended_ = status;
  }

  // Ends the stream; while workers are at it, these end it, in their next unit.
  void GiveUp(const absl::Status& why) {
    {
      const absl::MutexLock lock(&mutex_);
      if (phase_ == StreamPhase::kComputing) {
        if (!given_up_.has_value()) given_up_ = {why, absl::Now()};
        return call_->control()->Cancel();
      }
    }
    End(why);
  }

  void Take() {
    received_ += static_cast<std::int64_t>(message_.Length());
    {
      const absl::MutexLock lock(&mutex_);
      last_read_ = absl::Now();
    }
    auto part = v1::AttendStreamRequest::PART_NOT_SET;
    const absl::Status taken = Guarded([this, &part] {
      if (!call_->accepted()) HEADLIGHT_FAULT("accept");
      return TakeBytes(message_, *call_, &part);
    });
    if (!taken.ok()) return GiveUp(taken);
    if (part == v1::AttendStreamRequest::kHeader) {
      watch_.Greet();
      Pump(/*tick=*/false);
    }
    if (part == v1::AttendStreamRequest::kCommit) Compute();
    StartRead(&message_);
  }

  // The client has sent its last message, or is gone.
  void AllCame() {
    if (context_->IsCancelled() || call_->committed()) return;
    Violations violations;
    violations.Add("part", "the end of the stream", "a commit before it");
    GiveUp(violations.ToStatus());
  }

  void Compute() {
    {
      const absl::MutexLock lock(&mutex_);
      phase_ = StreamPhase::kComputing;
      ++inside_;  // until Computed
    }
    LookAfter(kTick / 5);  // the first soon: only then it is known how much there is to do
    const absl::Status begun = Guarded([this] {
      HEADLIGHT_FAULT("ticket");
      call_->Compute([this](const absl::Status& status) { Computed(status); });
      return absl::OkStatus();
    });
    if (begun.ok()) return;
    End(begun);
    const absl::MutexLock lock(&mutex_);
    --inside_;
  }

  void Computed(absl::Status status) {
    if (status.ok()) {
      status = Guarded([this] {
        HEADLIGHT_FAULT("encode");
        call_->Computed();
        return absl::OkStatus();
      });
    }
    if (status.ok()) {
      {
        const absl::MutexLock lock(&mutex_);
        phase_ = StreamPhase::kComputed;
        if (given_up_.has_value()) ended_ = given_up_->why;
      }
      Pump(/*tick=*/false);
    } else {
      const absl::MutexLock lock(&mutex_);
      ended_ = given_up_.has_value() ? given_up_->why : status;
      NoteCancelled(*ended_);
    }
    Leave();
  }

  void NoteCancelled(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const bool late = status.code() == absl::StatusCode::kDeadlineExceeded;
    if (!late && status.code() != absl::StatusCode::kCancelled) return;
    shared_.metrics.Cancelled(call_->stage(), late ? CancelCause::kDeadline : CancelCause::kClient,
                              call_->flops_done());
    if (!given_up_.has_value()) return;
    shared_.metrics.CancelTook(absl::ToDoubleSeconds(absl::Now() - given_up_->when));
  }

  // Writes what there is to say, unless somebody is at it: who will look again.
  void Pump(bool tick) {
    if (!Enter()) return;
    bool mine = false;
    {
      const absl::MutexLock lock(&mutex_);
      tick_ |= tick;
      news_ = true;
      mine = !std::exchange(writing_, true);
    }
    if (mine) Write();
    Leave();
  }

  // REQUIRES: writing_ is the caller's, and no write is under way.
  void Write() {
    for (;;) {
      StreamPhase phase;
      bool tick = false;
      {
        const absl::MutexLock lock(&mutex_);
        phase = phase_;
        tick = std::exchange(tick_, false);
        news_ = false;
      }
      bool made = false;
      const absl::Status status = Guarded([&] {
        v1::AttendStreamResponse message;
        StreamResults::Piece piece;
        made = call_->Next(phase, tick, &message, &piece);
        if (made) answer_ = PackMessage(message, std::move(piece));
        return absl::OkStatus();
      });
      if (!status.ok()) return GiveUp(status);
      if (made) return StartWriting();
      if (call_->ended()) return End(absl::OkStatus());
      const absl::MutexLock lock(&mutex_);
      if (news_) continue;
      writing_ = false;
      return;
    }
  }

  void StartWriting() {
    sent_ += static_cast<std::int64_t>(answer_.Length());
    {
      const absl::MutexLock lock(&mutex_);
      write_began_ = absl::Now();
    }
    grpc::WriteOptions options;
    options.set_no_compression();
    ServerBidiReactor::StartWrite(&answer_, options);
  }

  void FinishCall() {
    const absl::Status status = EndStatus();
    StopLooking();
    if (status.code() == absl::StatusCode::kInternal) {
      spdlog::error("call {} failed: {}", watch_.request_id(), std::string(status.message()));
    }
    watch_.Finish(status, [this](CallRecord* record) {
      call_->Describe(record);
      record->request_bytes = received_;
      record->response_bytes = sent_;
    });
    call_.reset();
    bool unread = false;
    {
      const absl::MutexLock lock(&mutex_);
      unread = write_began_ != absl::InfiniteFuture();
      if (unread && HasPatience()) return;
    }
    if (unread) context_->TryCancel();
    SendStatus();
  }

  // What is being written goes before the status, which a client that reads is to learn, and one that does not would
  // keep for ever. So it waits for the write, as long as the client may be silent.
  bool HasPatience() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Duration left = write_began_ + most_idle_ - absl::Now();
    status_waits_ = left > absl::ZeroDuration();
    if (status_waits_) SetAlarm(left);
    return status_waits_;
  }

  // REQUIRES: no write is under way that was not cancelled. Once it was called the context may be gone.
  void SendStatus() {
    StopLooking();
    Finish(ToGrpcStatus(EndStatus()));
  }

  void LosePatience() {
    {
      const absl::MutexLock lock(&mutex_);
      if (!status_waits_ || HasPatience()) return;  // or this was an alarm from before the end
    }
    context_->TryCancel();
    SendStatus();
  }

  absl::Status EndStatus() {
    const absl::MutexLock lock(&mutex_);
    return *ended_;
  }

  // Has somebody look at the client in so long, instead of whoever was to look before.
  void LookAfter(absl::Duration wait) {
    const absl::MutexLock lock(&mutex_);
    SetAlarm(wait);
  }

  void SetAlarm(absl::Duration wait) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (alarm_ != nullptr) alarm_->Cancel();
    owners_.fetch_add(1);
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(absl::ToChronoTime(absl::Now() + wait), [this](bool fired) {
      if (fired && Enter()) {
        Look();
        Leave();
      } else if (fired) {
        LosePatience();
      }
      Release();
    });
  }

  void Look() {
    absl::Duration unread, unsent;
    StreamPhase phase;
    {
      const absl::MutexLock lock(&mutex_);
      phase = phase_;
      unread = absl::Now() - write_began_;
      unsent = absl::Now() - last_read_;
    }
    const auto idle = [this](absl::string_view what) {
      return absl::DeadlineExceededError(absl::StrCat("the client ", what, " for ", absl::FormatDuration(most_idle_)));
    };
    if (phase == StreamPhase::kReceiving) {
      if (unsent >= most_idle_) return GiveUp(idle("sent nothing"));
      return LookAfter(most_idle_ - unsent);
    }
    if (unread >= most_idle_) GiveUp(idle("read nothing"));
    Pump(/*tick=*/phase == StreamPhase::kComputing);
    LookAfter(kTick);
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

  struct GivenUp {
    absl::Status why;
    absl::Time when;
  };

  Shared& shared_;
  grpc::CallbackServerContext* context_;  // lives until OnDone
  const absl::Time deadline_;
  const absl::Duration most_idle_;
  CallWatch watch_;
  std::optional<AttendStreamCall> call_;  // until the stream is finished
  grpc::ByteBuffer message_, answer_;
  std::int64_t received_ = 0, sent_ = 0;
  std::atomic<int> owners_{1};
  absl::Mutex mutex_;
  int inside_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<absl::Status> ended_ ABSL_GUARDED_BY(mutex_);
  std::optional<GivenUp> given_up_ ABSL_GUARDED_BY(mutex_);  // while it computes
  StreamPhase phase_ ABSL_GUARDED_BY(mutex_) = StreamPhase::kReceiving;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;  // somebody makes messages, or one is under way
  bool news_ ABSL_GUARDED_BY(mutex_) = false;     // since whoever writes has looked
  bool tick_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time last_read_ ABSL_GUARDED_BY(mutex_) = absl::Now();
  absl::Time write_began_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  bool status_waits_ ABSL_GUARDED_BY(mutex_) = false;  // for the write under way; all else is given back
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartStream(const Arrival& arrival) {
  auto* reactor = new StreamReactor(arrival);
  reactor->Start(MayEnter(arrival));
  return reactor;
}

}  // namespace headlight
