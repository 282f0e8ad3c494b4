#include "server/admission/compute_pool.h"

#include <algorithm>
#include <exception>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/time/clock.h"
#include "server/faults/fault.h"
#include "server/host/processors.h"

namespace headlight {
namespace {

constexpr int kStart = -1;  // the turn that begins a job's first phase
constexpr int kNone = -2;

// Nanoseconds. A call is young until it has been served that long, and young calls that wait end the turns of old ones.
constexpr std::int64_t kYoung = 5'000'000;
// A turn while young calls wait: long enough to pay for going through the queue.
constexpr std::int64_t kShortTurn = 200'000;
// A turn otherwise: a change of calls costs the caches their contents, some hundred microseconds of memory traffic.
constexpr std::int64_t kLongTurn = 8'000'000;
// How long a worker that has nothing left in a phase looks for the next one before it rests: about what it takes to
// wake it up. It gives way to any other thread meanwhile.
constexpr std::int64_t kLookout = 100'000;
// How often waiting turns are searched for calls that were given up: these leave before any other goes on.
constexpr absl::Duration kSearch = absl::Milliseconds(2);

// Runs f, turning what it throws into a status: a worker outlives every call.
template <typename F>
std::invoke_result_t<F> Guarded(F f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("not enough memory for this call now");
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

}  // namespace

struct ComputePool::Job {
  std::shared_ptr<CallControl> control;
  Work* work;
  Done done;
  std::atomic<int> lanes{0};
  std::atomic<bool> ended{false};
  // Nanoseconds on workers, counted from the virtual time when this one came.
  std::atomic<std::int64_t> served{0};
  std::int64_t began = 0;  // what `served` was then
  std::int64_t due = 0;    // what it will be at the end, as predicted
  // Once the prediction is wrong, what it has been served.
  std::int64_t Due() const { return std::max(due, served.load(std::memory_order_relaxed)); }
  bool young() const { return served.load(std::memory_order_relaxed) - began < kYoung; }

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

ComputePool::ComputePool(int threads) : since_(static_cast<std::size_t>(threads)) {
  // Where there is a worker for each processor: woken by one another, two of them may share one for milliseconds, while
  // the other rests.
  std::vector<int> processors = AllowedProcessors();
  if (processors.size() != since_.size()) processors.clear();
  threads_.reserve(since_.size());
  for (std::size_t i = 0; i < since_.size(); ++i) {
    const std::optional<int> own = processors.empty() ? std::nullopt : std::make_optional(processors[i]);
    threads_.emplace_back([this, i, own] {
      if (own.has_value()) KeepTo(*own);
      WorkerLoop(since_[i]);
    });
  }
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
  {
    const absl::MutexLock lock(&mutex_);
    // A job has a turn a worker at most. Their room is made here, where lack of memory can be told: workers must not
    // fail.
    const std::size_t turns = static_cast<std::size_t>(jobs_ + 1) * threads_.size();
    if (turns_.capacity() < turns) turns_.reserve(2 * turns);
    job->began = clock_.now();
    job->served.store(job->began, std::memory_order_relaxed);
    job->due = clock_.Begin(absl::ToInt64Nanoseconds(job->control->expected()));
    ++jobs_;  // nothing fails from here on
  }
  Push(std::move(job), kStart);
}

void ComputePool::Push(std::shared_ptr<Job> job, int lane) {
  const bool young = job->young();
  const std::int64_t due = job->Due();
  const absl::MutexLock lock(&mutex_);
  turns_.push_back({std::move(job), lane, due, pushed_++, young, /*ended=*/false});
  std::push_heap(turns_.begin(), turns_.end(), Later());
  if (young) young_waiting_.fetch_add(1, std::memory_order_relaxed);
  waiting_.fetch_add(1, std::memory_order_relaxed);
}

absl::Duration ComputePool::longest_step() const {
  const std::int64_t now = absl::GetCurrentTimeNanos();
  std::int64_t longest = 0;
  for (const Since& worker : since_) {
    const std::int64_t since = worker.load(std::memory_order_relaxed);
    if (since != 0) longest = std::max(longest, now - since);
  }
  return absl::Nanoseconds(longest);
}

void ComputePool::WorkerLoop(Since& since) {
  const auto has_turn_or_ends = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !turns_.empty() || (stopping_ && jobs_ == 0);
  };
  while (true) {
    Turn turn;
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&has_turn_or_ends));
      if (turns_.empty()) return;
      BringEndedForward();
      std::pop_heap(turns_.begin(), turns_.end(), Later());
      turn = std::move(turns_.back());
      turns_.pop_back();
      if (turn.young) young_waiting_.fetch_sub(1, std::memory_order_relaxed);
      waiting_.fetch_sub(1, std::memory_order_relaxed);
    }
    busy_.fetch_add(1, std::memory_order_relaxed);
    const int left = TakeTurn(turn.job, turn.lane, since);
    since.store(0, std::memory_order_relaxed);
    busy_.fetch_sub(1, std::memory_order_relaxed);
    if (left >= 0) Push(std::move(turn.job), left);
  }
}

void ComputePool::BringEndedForward() {
  const absl::Time now = absl::Now();
  if (now - searched_ < kSearch) return;
  searched_ = now;
  bool any = false;
  for (Turn& turn : turns_) {
    if (turn.ended || turn.job->control->Check(now).ok()) continue;
    turn.ended = any = true;
  }
  if (any) std::make_heap(turns_.begin(), turns_.end(), Later());
}

absl::StatusOr<bool> ComputePool::RunUnits(Job& job, int lane, Since& since) {
  const std::int64_t start = absl::GetCurrentTimeNanos();
  std::int64_t spent = 0;
  absl::StatusOr<bool> more = true;
  while (more.ok() && *more) {
    const std::int64_t turn = young_waiting_.load(std::memory_order_relaxed) > 0 ? kShortTurn : kLongTurn;
    if (spent >= turn) break;
    absl::Status status = job.Status();
    if (status.ok()) status = job.control->Check(absl::FromUnixNanos(start + spent));
    if (status.ok()) {
      more = Guarded([&] {
        HEADLIGHT_FAULT("unit");
        return job.work->RunUnit(lane);
      });
    } else {
      more = std::move(status);
    }
    spent = absl::GetCurrentTimeNanos() - start;
    since.store(start + spent, std::memory_order_relaxed);
  }
  Count(spent, job);
  return more;
}

void ComputePool::Count(std::int64_t spent, Job& job) {
  busy_nanos_.fetch_add(spent, std::memory_order_relaxed);
  const std::int64_t before = job.served.fetch_add(spent, std::memory_order_relaxed);
  job.control->AddWorkerTime(spent);
  const std::int64_t expected = std::clamp<std::int64_t>(job.due - before, 0, spent);
  const absl::MutexLock lock(&mutex_);
  clock_.Advance(expected);
  if (expected < spent) clock_.Exceed(spent - expected, std::max<std::int64_t>(jobs_, 1));
}

int ComputePool::TakeTurn(const std::shared_ptr<Job>& job, int lane, Since& since) {
  do {
    since.store(absl::GetCurrentTimeNanos(), std::memory_order_relaxed);
    if (lane != kStart) {
      absl::StatusOr<bool> more = RunUnits(*job, lane, since);
      if (more.ok() && *more) return lane;
      if (!more.ok()) job->Fail(std::move(more).status());
      if (job->lanes.fetch_sub(1) != 1) {
        LookOut(*job);
        return kNone;
      }
    }
    lane = BeginPhase(job);
  } while (lane >= 0);
  return kNone;
}

void ComputePool::LookOut(const Job& job) const {
  const std::int64_t end = absl::GetCurrentTimeNanos() + kLookout;
  while (waiting_.load(std::memory_order_relaxed) == 0 && !job.ended.load(std::memory_order_relaxed) &&
         absl::GetCurrentTimeNanos() < end) {
    std::this_thread::yield();
  }
}

int ComputePool::BeginPhase(const std::shared_ptr<Job>& job) {
  absl::Status status = job->Status();
  if (status.ok()) status = job->control->Check(absl::Now());
  if (status.ok()) {
    const absl::StatusOr<int> lanes = Guarded([&] {
      HEADLIGHT_FAULT("phase");
      return job->work->BeginPhase(workers());
    });
    if (lanes.ok() && *lanes > 0) {
      job->lanes.store(*lanes);
      for (int lane = 1; lane < *lanes; ++lane) Push(job, lane);
      return 0;
    }
    status = lanes.status();
  }
  job->ended.store(true, std::memory_order_relaxed);
  const bool to_its_end = status.ok();
  job->control->EndComputing();  // before its answer: who calls again at once does not wait for this call
  job->done(std::move(status));
  const absl::MutexLock lock(&mutex_);
  if (!to_its_end) clock_.GiveUp(job->due);
  if (to_its_end) clock_.Advance(std::max<std::int64_t>(job->due - job->served.load(), 0));
  --jobs_;
  return kNone;
}

}  // namespace headlight
