#include "server/admission/admission.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "server/base/errors.h"

namespace headlight {
namespace {

constexpr double kLeastRetrySeconds = 0.05;
constexpr double kPressureRetrySeconds = 1;
// Times max_calls: how many there may be with those whose answers are still being sent.
constexpr std::int64_t kAnswers = 16;

std::string Seconds(double seconds) { return absl::StrFormat("%.3g s", seconds); }

absl::Status Unavailable(ErrorReason reason, absl::string_view message) {
  ErrorDetails details;
  details.reason = reason;
  details.retry_after_seconds = 1;
  return MakeError(absl::StatusCode::kUnavailable, message, details);
}

absl::Status TooExpensive(const CallCost& cost, std::string got, std::string expected) {
  Violations violations;
  violations.AddTooExpensive(std::string(cost.field), std::move(got), std::move(expected));
  return violations.ToStatus();
}

absl::string_view ReasonText(Decision decision) {
  switch (decision) {
    case Decision::kWait: return "calls under way would make it wait too long";
    case Decision::kCalls: return "too many calls are under way";
    case Decision::kMemory: return "calls under way hold the memory that it needs";
    case Decision::kMemoryPressure: return "the server is near its memory limit";
    default: return "the server is busy";
  }
}

}  // namespace

// A ticket's hold on its call.
class Admission::Held final : public Ticket::Place {
 public:
  // Of a list of its own until it is handed over, so that nothing can fail once the call counts.
  Held(Admission& admission, Call call) : admission_(admission), one_{std::move(call)}, call_(one_.begin()) {}
  ~Held() override {
    if (one_.empty()) admission_.GiveBack(call_);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  double Learn(double worker_seconds) override {
    admission_.model_.Learn(call_->cost, worker_seconds);
    return worker_seconds / call_->worker_seconds;
  }

 private:
  friend class Admission;
  // Moves the call to those under way.
  void HandOver(Calls& calls) { calls.splice(calls.end(), one_); }
  const std::shared_ptr<CallControl>& control() const { return call_->control; }

  Admission& admission_;
  Calls one_;
  const Calls::iterator call_;
};

Admission::Admission(AdmissionOptions options, MemoryLedger* memory) : options_(std::move(options)), memory_(memory) {}

void Admission::Open() { phase_.store(Phase::kOpen); }
void Admission::Close() { phase_.store(Phase::kClosed); }

void Admission::Tell(Decision decision) const {
  const bool own = decision != Decision::kNotReady && phase_.load() == Phase::kWarming;
  if (options_.decided && !own) options_.decided(decision);
}

absl::Status Admission::Gate() {
  switch (phase_.load()) {
    case Phase::kOpen: return absl::OkStatus();
    case Phase::kWarming:
      Tell(Decision::kNotReady);
      return Unavailable(ErrorReason::kNotReady, "the server has just started and takes calls in a moment");
    case Phase::kClosed: break;
  }
  Tell(Decision::kDraining);
  return Unavailable(ErrorReason::kDraining, "the server is about to stop and takes no more calls");
}

absl::Status Admission::Aborted() const {
  return options_.aborted != nullptr && options_.aborted->load() ? DrainAborted() : absl::OkStatus();
}

double Admission::Left(const Call& call, absl::Time now) {
  if (call.control->receiving() || call.control->computed() || call.control->GivenUp(now)) return 0;
  return std::max(call.worker_seconds - call.control->worker_seconds(), 0.0);
}

std::int64_t Admission::CallsLocked() const {
  return std::count_if(calls_.begin(), calls_.end(), [](const Call& call) { return !call.control->computed(); });
}

double Admission::BacklogLocked() const {
  const absl::Time now = absl::Now();
  double left = 0;
  for (const Call& call : calls_) left += Left(call, now);
  return left / options_.workers;
}

Quote Admission::PredictLocked(const CallCost& cost, Priority priority) const {
  const double mine = model_.WorkerSeconds(cost);
  Quote quote;
  quote.compute_seconds = mine / CostModel::Lanes(cost, options_.workers);
  // Calls share the workers by time: until this one has had what it needs, each other gets as much, or all it needs.
  const absl::Time now = absl::Now();
  for (const Call& call : calls_) quote.wait_seconds += std::min(Left(call, now), mine);
  quote.wait_seconds /= options_.workers;
  const bool batch = priority == Priority::kBatch;
  const MemoryPressure pressure = pressure_.load(std::memory_order_relaxed);
  const std::int64_t budget = options_.memory_budget_bytes;
  if (quote.compute_seconds > options_.max_call_seconds || (budget > 0 && cost.bytes > budget)) {
    quote.decision = Decision::kTooExpensive;
  } else if (pressure == MemoryPressure::kShedAll || (batch && pressure == MemoryPressure::kShedBatch)) {
    quote.decision = Decision::kMemoryPressure;
  } else if (CallsLocked() >= options_.max_calls ||
             static_cast<std::int64_t>(calls_.size()) >= kAnswers * options_.max_calls) {
    quote.decision = Decision::kCalls;
  } else if (budget > 0 && reserved_bytes_ + cost.bytes > budget) {
    quote.decision = Decision::kMemory;
  } else if (quote.wait_seconds > options_.max_wait_seconds * (batch ? 0.5 : 1)) {
    quote.decision = Decision::kWait;
  }
  return quote;
}

absl::Status Admission::Refuse(const CallCost& cost, const Quote& quote, absl::Time now, absl::Time deadline) {
  if (quote.decision == Decision::kTooExpensive) {
    if (quote.compute_seconds > options_.max_call_seconds) {
      return TooExpensive(cost, absl::StrCat("about ", Seconds(quote.compute_seconds), " of computing"),
                          absl::StrCat("at most ", Seconds(options_.max_call_seconds), " a call"));
    }
    return TooExpensive(cost, absl::StrCat(cost.bytes, " bytes of memory"),
                        absl::StrCat("at most ", options_.memory_budget_bytes, " for all calls"));
  }
  ErrorDetails details;
  if (quote.decision == Decision::kDeadline) {
    details.reason = ErrorReason::kDeadlineExceeded;
    const double left = std::max(absl::ToDoubleSeconds(deadline - now), 0.0);
    return MakeError(absl::StatusCode::kDeadlineExceeded,
                     absl::StrCat("the call would take about ", Seconds(quote.wait_seconds + quote.compute_seconds),
                                  ", and its deadline leaves ", Seconds(left)),
                     details);
  }
  details.reason = ErrorReason::kServerOverloaded;
  if (quote.decision == Decision::kMemory && held_bytes_ + cost.bytes > options_.memory_budget_bytes) {
    // Without a delay: no call's end makes room for it.
    details.metadata["cause"] = std::string(NameOf(quote.decision));
    return MakeError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat("it needs ", cost.bytes, " bytes of a budget of ", options_.memory_budget_bytes,
                     ", of which layers hold ", held_bytes_, "; delete layers, or raise --memory-budget-bytes"),
        details);
  }
  details.metadata["cause"] = std::string(NameOf(quote.decision));
  const double base = quote.decision == Decision::kMemoryPressure ? kPressureRetrySeconds
                                                                  : std::max(BacklogLocked(), kLeastRetrySeconds);
  // Spread out, so that those who were refused together do not come back together.
  details.retry_after_seconds = base * absl::Uniform(random_, 0.75, 1.25);
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat(ReasonText(quote.decision), "; try again in ", Seconds(details.retry_after_seconds)),
                   details);
}

absl::StatusOr<Ticket> Admission::Admit(const CallCost& cost, Priority priority, absl::Time deadline) {
  const absl::Time now = absl::Now();
  const double worker_seconds = model_.WorkerSeconds(cost);
  auto held = std::make_unique<Held>(
      *this, Call{cost, worker_seconds,
                  std::make_shared<CallControl>(deadline, options_.aborted, absl::Seconds(worker_seconds))});
  const std::shared_ptr<CallControl> control = held->control();
  Quote quote;
  absl::Status refused;
  {
    const absl::MutexLock lock(&mutex_);
    quote = PredictLocked(cost, priority);
    const absl::Duration needed = absl::Seconds(quote.wait_seconds + quote.compute_seconds);
    if (quote.decision == Decision::kAdmitted && now + needed > deadline) quote.decision = Decision::kDeadline;
    if (quote.decision == Decision::kAdmitted) {
      held->HandOver(calls_);
      reserved_bytes_ += cost.bytes;
    } else {
      refused = Refuse(cost, quote, now, deadline);
    }
  }
  Tell(quote.decision);
  if (!refused.ok()) return refused;
  admitted_.fetch_add(1, std::memory_order_relaxed);
  return Ticket(std::move(held), memory_, control);
}

absl::StatusOr<std::shared_ptr<void>> Admission::Hold(std::int64_t bytes, absl::string_view field) {
  CallCost cost;
  cost.bytes = bytes;
  cost.field = field;
  // Made before it counts, so that nothing can fail once it does.
  auto held = std::make_unique<std::int64_t>(0);
  std::int64_t* const counted = held.get();
  std::shared_ptr<void> hold(held.release(), [this](void* given) {
    const std::unique_ptr<std::int64_t> back(static_cast<std::int64_t*>(given));
    const absl::MutexLock lock(&mutex_);
    reserved_bytes_ -= *back;
    held_bytes_ -= *back;
  });
  Quote quote;
  absl::Status refused;
  {
    const absl::MutexLock lock(&mutex_);
    const std::int64_t budget = options_.memory_budget_bytes;
    if (budget > 0 && bytes > budget) quote.decision = Decision::kTooExpensive;
    if (budget > 0 && bytes <= budget && reserved_bytes_ + bytes > budget) quote.decision = Decision::kMemory;
    if (quote.decision == Decision::kAdmitted) {
      *counted = bytes;
      reserved_bytes_ += bytes;
      held_bytes_ += bytes;
    } else {
      refused = Refuse(cost, quote, absl::Now(), absl::InfiniteFuture());
    }
  }
  if (refused.ok()) return hold;
  Tell(quote.decision);
  return refused;
}

void Admission::GiveBack(Calls::iterator call) {
  const absl::MutexLock lock(&mutex_);
  reserved_bytes_ -= call->cost.bytes;
  calls_.erase(call);
}

Quote Admission::Predict(const CallCost& cost, Priority priority) const {
  const absl::MutexLock lock(&mutex_);
  return PredictLocked(cost, priority);
}

std::int64_t Admission::calls() const {
  const absl::MutexLock lock(&mutex_);
  return CallsLocked();
}

std::int64_t Admission::reserved_bytes() const {
  const absl::MutexLock lock(&mutex_);
  return reserved_bytes_;
}

double Admission::backlog_seconds() const {
  const absl::MutexLock lock(&mutex_);
  return BacklogLocked();
}

}  // namespace headlight
