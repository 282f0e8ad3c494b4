// The workers that compute. They take units of work of at most a millisecond from all accepted calls in turn, so that
// a short call never waits for a huge one, and look at cancellation and deadlines between units.
#ifndef HEADLIGHT_SERVER_ADMISSION_COMPUTE_POOL_H_
#define HEADLIGHT_SERVER_ADMISSION_COMPUTE_POOL_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
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

  // Starts `threads` (>= 1) workers.
  explicit ComputePool(int threads);
  // Finishes all accepted work first.
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  // Runs the work to its end, its first error, cancellation or deadline, then calls `done` once on a worker. `work`
  // outlives that call; an exception in a unit becomes RESOURCE_EXHAUSTED (memory) or INTERNAL.
  void Run(std::shared_ptr<CallControl> control, Work* work, Done done);

  int workers() const { return static_cast<int>(threads_.size()); }
  int busy() const { return busy_.load(std::memory_order_relaxed); }
  // Units ended since the start: grows as long as there is work and workers are alive.
  std::int64_t units() const { return units_.load(std::memory_order_relaxed); }
  double busy_seconds() const { return static_cast<double>(busy_nanos_.load(std::memory_order_relaxed)) * 1e-9; }

 private:
  struct Job;
  struct Turn {
    std::shared_ptr<Job> job;
    int lane;
  };

  void WorkerLoop();
  void TakeTurn(Turn turn);
  void BeginPhase(const std::shared_ptr<Job>& job);
  void Push(Turn turn);

  absl::Mutex mutex_;
  std::deque<Turn> turns_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::int64_t jobs_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<int> busy_{0};
  std::atomic<std::int64_t> units_{0};
  std::atomic<std::int64_t> busy_nanos_{0};
  std::vector<std::thread> threads_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ADMISSION_COMPUTE_POOL_H_
