// The workers that compute. Accepted calls share them by time, so that a short call stays short beside huge ones: each
// ends about when it would if all went on side by side, but one of equals is done before the next begins, for what is
// begun holds memory and caches. Work is made of units
// of at most a millisecond; between units a worker looks at cancellation, deadlines and whether a young call waits.
#ifndef HEADLIGHT_SERVER_ADMISSION_COMPUTE_POOL_H_
#define HEADLIGHT_SERVER_ADMISSION_COMPUTE_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/admission/fair_clock.h"
#include "server/admission/ticket.h"

namespace headlight {

// A call's computation: phases one after the other, each worked on by lanes side by side. A lane is worked on by one
// worker at a time and keeps what it needs to go on where it stopped.
class Work {
 public:
  virtual ~Work() = default;

  // Begins the next phase. Returns how many lanes it can use, at most `workers`; 0: there is no further phase.
  // No unit runs meanwhile.
  virtual absl::StatusOr<int> BeginPhase(int workers) = 0;

  // Runs one unit, at most about a millisecond. False: nothing is left for this lane in this phase. Called for
  // different lanes at once, for one lane never.
  virtual absl::StatusOr<bool> RunUnit(int lane) = 0;
};

// Thread-safe.
class ComputePool {
 public:
  using Done = std::function<void(absl::Status)>;

  // Starts `threads` (>= 1) workers. As many as the processors that the process may use: each keeps to one.
  explicit ComputePool(int threads);
  // Finishes all accepted work first.
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  // Runs the work to its end, its first error, cancellation or deadline, then calls `done` once on a worker. `work`
  // outlives that call; an exception in a unit becomes RESOURCE_EXHAUSTED (memory) or INTERNAL.
  // Throws std::bad_alloc where it cannot begin; then `done` is never called.
  void Run(std::shared_ptr<CallControl> control, Work* work, Done done);

  int workers() const { return static_cast<int>(threads_.size()); }
  int busy() const { return busy_.load(std::memory_order_relaxed); }
  // How long the slowest worker has been at what it does now: a unit, a phase's beginning, an answer. 0: all rest.
  // Seconds mean that it hangs.
  absl::Duration longest_step() const;
  double busy_seconds() const { return static_cast<double>(busy_nanos_.load(std::memory_order_relaxed)) * 1e-9; }

 private:
  struct Job;
  struct Turn {
    std::shared_ptr<Job> job;
    int lane;
    std::int64_t due;     // of its job when it began to wait: the least goes on
    std::int64_t number;  // of all turns
    bool young;
    bool ended;  // its call was given up
  };
  // Whether a goes after b.
  struct Later {
    bool operator()(const Turn& a, const Turn& b) const {
      if (a.ended != b.ended) return b.ended;
      return a.due != b.due ? a.due > b.due : a.number > b.number;
    }
  };

  // When a worker began what it does now, in nanoseconds since 1970; 0: it rests.
  using Since = std::atomic<std::int64_t>;

  void WorkerLoop(Since& since);
  // The lane that has units left when the turn is over; negative: none.
  int TakeTurn(const std::shared_ptr<Job>& job, int lane, Since& since);
  // Runs units of a lane until its turn is over. Whether units are left.
  absl::StatusOr<bool> RunUnits(Job& job, int lane, Since& since);
  // Ends the job, or begins a phase: its lanes wait but for the first, which is the caller's. Negative: the job ended.
  int BeginPhase(const std::shared_ptr<Job>& job);
  void Push(std::shared_ptr<Job> job, int lane);
  // Until a turn waits or the job has ended, for a moment at most.
  void LookOut(const Job& job) const;
  // Workers spent so long on a job.
  void Count(std::int64_t spent, Job& job);
  // Now and then, puts turns of calls that were given up in front.
  void BringEndedForward() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  std::vector<Turn> turns_ ABSL_GUARDED_BY(mutex_);  // a heap: the next turn in front
  std::int64_t pushed_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time searched_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::atomic<int> waiting_{0}, young_waiting_{0};  // turns
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::int64_t jobs_ ABSL_GUARDED_BY(mutex_) = 0;
  FairClock clock_ ABSL_GUARDED_BY(mutex_);
  std::atomic<int> busy_{0};
  std::atomic<std::int64_t> busy_nanos_{0};
  std::vector<Since> since_;  // of each worker
  std::vector<std::thread> threads_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ADMISSION_COMPUTE_POOL_H_
