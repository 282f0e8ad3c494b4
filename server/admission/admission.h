// Whether a call is taken: by what it will cost, what is under way, its deadline and the memory there is. A taken call
// holds a ticket until it ends.
#ifndef HEADLIGHT_SERVER_ADMISSION_ADMISSION_H_
#define HEADLIGHT_SERVER_ADMISSION_ADMISSION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/admission/cost.h"
#include "server/admission/ticket.h"
#include "server/base/decision.h"
#include "server/base/memory.h"

namespace headlight {

enum class Priority : std::uint8_t { kInteractive, kBatch };

// How near the cgroup is to its limit.
enum class MemoryPressure : std::uint8_t { kNone, kShedBatch, kShedAll };

struct AdmissionOptions {
  int workers = 1;
  double max_wait_seconds = 1;
  double max_call_seconds = 30;
  std::int64_t max_calls = 1024;         // that wait or compute: who does not read an answer holds its memory alone
  std::int64_t memory_budget_bytes = 0;  // 0: no bound
  std::function<void(Decision)> decided = {};  // told of each decision; thread-safe; may be empty
  const std::atomic<bool>* aborted = nullptr;  // see CallControl
};

// What a call would meet now.
struct Quote {
  Decision decision = Decision::kAdmitted;
  double wait_seconds = 0;     // that other calls take before and beside it
  double compute_seconds = 0;  // of its own, alone on the pool
};

// Thread-safe.
class Admission {
 public:
  // `memory` outlives it, and it outlives every ticket.
  Admission(AdmissionOptions options, MemoryLedger* memory);

  // Calls of the server's own are admitted from the start, others between Open and Close.
  void Open();
  void Close();
  // OK, or UNAVAILABLE with NOT_READY or DRAINING.
  absl::Status Gate();
  // OK, or DrainAborted: to those who wait without a ticket, or for their client.
  absl::Status Aborted() const;

  // Errors:
  // - INVALID_ARGUMENT, REQUEST_TOO_EXPENSIVE: the call alone would take longer than max_call_seconds, or more memory
  //   than the budget;
  // - DEADLINE_EXCEEDED: it is predicted to end after its deadline;
  // - RESOURCE_EXHAUSTED, SERVER_OVERLOADED with a retry delay: it would wait longer than max_wait_seconds (a batch
  // call:
  //   than half of that), max_calls are under way, the memory budget has no room, or the cgroup is under pressure;
  //   without a delay where it has no room beside what is held beyond calls.
  absl::StatusOr<Ticket> Admit(const CallCost& cost, Priority priority, absl::Time deadline);

  // Takes memory out of the budget beyond any call, until what is returned is gone: layers that the server holds. 0:
  // OK. Errors: INVALID_ARGUMENT, REQUEST_TOO_EXPENSIVE of `field`: more than the budget; RESOURCE_EXHAUSTED,
  // SERVER_OVERLOADED with a retry delay: the budget has no room now.
  absl::StatusOr<std::shared_ptr<void>> Hold(std::int64_t bytes, absl::string_view field);

  // What Admit would say to a call without a deadline.
  Quote Predict(const CallCost& cost, Priority priority) const;

  void SetPressure(MemoryPressure pressure) { pressure_.store(pressure, std::memory_order_relaxed); }

  // Under way now, but for those whose answers are being sent, and admitted since the start.
  std::int64_t calls() const;
  std::int64_t admitted() const { return admitted_.load(std::memory_order_relaxed); }
  // By calls, and held beyond them.
  std::int64_t reserved_bytes() const;
  // Seconds that the pool would take to end all that is under way.
  double backlog_seconds() const;
  const AdmissionOptions& options() const { return options_; }
  CostModel& model() { return model_; }

 private:
  // A call that is under way.
  struct Call {
    CallCost cost;
    double worker_seconds;  // estimated
    std::shared_ptr<CallControl> control;
  };
  using Calls = std::list<Call>;
  class Held;

  enum class Phase : std::uint8_t { kWarming, kOpen, kClosed };

  // Seconds of workers that a call still needs: none where nobody waits for it any more, or its data is still coming,
  // for as long as the sender likes.
  static double Left(const Call& call, absl::Time now);
  Quote PredictLocked(const CallCost& cost, Priority priority) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::int64_t CallsLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  double BacklogLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Refuse(const CallCost& cost, const Quote& quote, absl::Time now, absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Tell(Decision decision) const;
  void GiveBack(Calls::iterator call);

  const AdmissionOptions options_;
  MemoryLedger* memory_;
  CostModel model_;
  std::atomic<std::int64_t> admitted_{0};
  std::atomic<Phase> phase_{Phase::kWarming};
  std::atomic<MemoryPressure> pressure_{MemoryPressure::kNone};
  mutable absl::Mutex mutex_;
  Calls calls_ ABSL_GUARDED_BY(mutex_);
  std::int64_t reserved_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::int64_t held_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of them beyond calls
  absl::InsecureBitGen random_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ADMISSION_ADMISSION_H_
