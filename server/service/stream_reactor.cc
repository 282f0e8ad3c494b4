#include "server/service/stream_reactor.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/service/attend_stream_call.h"
#include "server/service/stream_wire.h"
#include "server/service/watched_reactor.h"

namespace headlight {
namespace {

// Whatever uses the call or begins an operation of gRPC's stands between Enter and Leave. Once the stream has ended
// nobody enters, and the last to leave finishes it: no operation is begun after gRPC's Finish, and nobody is in the
// call when it is given back.
class StreamReactor final : public WatchedReactor<grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>> {
 public:
  explicit StreamReactor(const Arrival& arrival)
      : WatchedReactor(arrival),
        watch_(arrival, v1::AttendStreamRequest::default_instance(), v1::AttendStreamResponse::default_instance()) {
    call_.emplace(shared_, deadline_, [this] { Pump(/*tick=*/false); });
  }

  void Start(absl::Status may) {
    if (!Enter()) return;
    if (may.ok()) may = shared_.admission.Gate();
    if (may.ok()) {
      LookAfter(kTick);
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
    GiveUp(WhyCancelled());
    Leave();
  }

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
        google::protobuf::Arena arena;
        auto* message = google::protobuf::Arena::CreateMessage<v1::AttendStreamResponse>(&arena);
        StreamResults::Piece piece;
        made = call_->Next(phase, tick, message, &piece);
        if (made) answer_ = PackMessage(*message, std::move(piece));
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
    if (status.code() == absl::StatusCode::kInternal) {
      spdlog::error("call {} failed: {}", watch_.request_id(), std::string(status.message()));
    }
    watch_.Finish(status, [this](CallRecord* record) {
      call_->Describe(record);
      record->request_bytes = received_;
      record->response_bytes = sent_;
    });
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
  // keep for ever. So it waits for the write, as long as the client may be silent; and the call with it, for what is
  // written is the call's own memory.
  bool HasPatience() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Duration left = write_began_ + most_idle_ - absl::Now();
    status_waits_ = left > absl::ZeroDuration();
    if (status_waits_) LookAfter(left);
    return status_waits_;
  }

  // REQUIRES: no write is under way that was not cancelled. Once it was called the context may be gone.
  void SendStatus() {
    StopLooking();
    call_.reset();
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

  void Look() override {
    if (!Enter()) return LosePatience();
    LookAtClient();
    Leave();
  }

  void LookAtClient() {
    absl::Duration unread, unsent;
    StreamPhase phase;
    {
      const absl::MutexLock lock(&mutex_);
      phase = phase_;
      unread = absl::Now() - write_began_;
      unsent = absl::Now() - last_read_;
    }
    const bool receives = phase == StreamPhase::kReceiving;
    const absl::Duration idle = receives ? unsent : unread;
    if (absl::Status aborted = shared_.admission.Aborted(); !aborted.ok()) return GiveUp(aborted);
    if (idle >= most_idle_) {
      return GiveUp(absl::DeadlineExceededError(
          absl::StrCat("the client ", receives ? "sent" : "read", " nothing for ", absl::FormatDuration(most_idle_))));
    }
    if (!receives) Pump(/*tick=*/phase == StreamPhase::kComputing);
    LookAfter(std::min(kTick, most_idle_ - idle));
  }

  struct GivenUp {
    absl::Status why;
    absl::Time when;
  };

  CallWatch watch_;
  std::optional<AttendStreamCall> call_;  // until its status is sent
  grpc::ByteBuffer message_, answer_;
  std::int64_t received_ = 0, sent_ = 0;
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
  bool status_waits_ ABSL_GUARDED_BY(mutex_) = false;  // for the write under way
};

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartStream(const Arrival& arrival) {
  auto* reactor = new StreamReactor(arrival);
  reactor->Start(MayEnter(arrival));
  return reactor;
}

}  // namespace headlight
