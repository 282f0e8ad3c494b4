#include "server/admission/compute_pool.h"

#include <exception>
#include <new>
#include <type_traits>
#include <utility>

#include "absl/time/clock.h"

namespace headlight {
namespace {

constexpr int kStart = -1;  // The turn that begins a job's first phase.

// Runs f, turning what it throws into a status: a worker outlives every call.
template <typename F>
std::invoke_result_t<F> Guarded(F f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("not enough memory for this call now");
  } catch (const std::exception&) {
    return absl::InternalError("unexpected failure while computing");
  }
}

}  // namespace

struct ComputePool::Job {
  std::shared_ptr<CallControl> control;
  Work* work;
  Done done;
  std::atomic<int> lanes{0};
  absl::Mutex mutex;
  absl::Status status ABSL_GUARDED_BY(mutex);

  absl::Status Status() {
    const absl::MutexLock lock(&mutex);
    return status;
  }
  void Fail(absl::Status failure) {
    const absl::MutexLock lock(&mutex);
    if (status.ok()) status = std::move(failure);
  }
};

ComputePool::ComputePool(int threads) {
  threads_.reserve(static_cast<std::size_t>(threads));
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { WorkerLoop(); });
}

ComputePool::~ComputePool() {
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void ComputePool::Run(std::shared_ptr<CallControl> control, Work* work, Done done) {
  auto job = std::make_shared<Job>();
  job->control = std::move(control);
  job->work = work;
  job->done = std::move(done);
  const absl::MutexLock lock(&mutex_);
  ++jobs_;
  turns_.push_back({std::move(job), kStart});
}

void ComputePool::Push(Turn turn) {
  const absl::MutexLock lock(&mutex_);
  turns_.push_back(std::move(turn));
}

void ComputePool::WorkerLoop() {
  const auto has_turn_or_ends = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !turns_.empty() || (stopping_ && jobs_ == 0);
  };
  while (true) {
    Turn turn;
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&has_turn_or_ends));
      if (turns_.empty()) return;
      turn = std::move(turns_.front());
      turns_.pop_front();
    }
    busy_.fetch_add(1, std::memory_order_relaxed);
    const std::int64_t start = absl::GetCurrentTimeNanos();
    TakeTurn(std::move(turn));
    busy_nanos_.fetch_add(absl::GetCurrentTimeNanos() - start, std::memory_order_relaxed);
    busy_.fetch_sub(1, std::memory_order_relaxed);
    units_.fetch_add(1, std::memory_order_relaxed);
  }
}

void ComputePool::TakeTurn(Turn turn) {
  Job& job = *turn.job;
  if (turn.lane == kStart) return BeginPhase(turn.job);
  absl::Status status = job.Status();
  if (status.ok()) status = job.control->Check(absl::Now());
  if (status.ok()) {
    const absl::StatusOr<bool> more = Guarded([&] { return job.work->RunUnit(turn.lane); });
    if (more.ok() && *more) return Push(std::move(turn));
    status = more.status();
  }
  if (!status.ok()) job.Fail(std::move(status));
  if (job.lanes.fetch_sub(1) == 1) BeginPhase(turn.job);
}

void ComputePool::BeginPhase(const std::shared_ptr<Job>& job) {
  absl::Status status = job->Status();
  if (status.ok()) status = job->control->Check(absl::Now());
  if (status.ok()) {
    const absl::StatusOr<int> lanes = Guarded([&] { return job->work->BeginPhase(workers()); });
    if (lanes.ok() && *lanes > 0) {
      job->lanes.store(*lanes);
      for (int lane = 0; lane < *lanes; ++lane) Push({job, lane});
      return;
    }
    status = lanes.status();
  }
  job->done(std::move(status));
  const absl::MutexLock lock(&mutex_);
  --jobs_;
}

}  // namespace headlight
