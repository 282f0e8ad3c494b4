#include "server/engine/phased_work.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

namespace headlight {
namespace {

// Notes which steps ran, and checks the order of a task's steps.
class Counting final : public Phase {
 public:
  Counting(std::int64_t tasks, std::int64_t steps, std::set<std::pair<std::int64_t, std::int64_t>>& seen)
      : Phase(Stage::kAttend), tasks_(tasks), steps_(steps), seen_(seen) {}

  std::int64_t Begin() override { return tasks_; }
  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override {
    // What the step before left in the lane's scratch is still there.
    if (step > 0 && lane.scratch[0] != static_cast<float>(task * 100 + step - 1)) {
      return absl::InternalError("scratch changed between the steps of a task");
    }
    lane.scratch[0] = static_cast<float>(task * 100 + step);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!seen_.insert({task, step}).second) return absl::InternalError("a step ran twice");
    return step + 1 < steps_;
  }

 private:
  std::int64_t tasks_, steps_;
  std::set<std::pair<std::int64_t, std::int64_t>>& seen_;
  std::mutex mutex_;
};

class TestWork final : public PhasedWork {
 public:
  explicit TestWork(MemoryAccount& account) : PhasedWork(account, 16, absl::Now()) {}
  std::set<std::pair<std::int64_t, std::int64_t>> first, second;

 private:
  void Build() override {
    Add(std::make_unique<Counting>(20, 5, first));
    Add(std::make_unique<Counting>(0, 1, second));
    Add(std::make_unique<Counting>(3, 2, second));
  }
};

TEST(PhasedWork, RunsEveryStepOnceAndPhasesInOrder) {
  for (const int threads : {1, 2, 5}) {
    MemoryAccount account(nullptr);
    TestWork work(account);
    ComputePool pool(threads);
    absl::Notification ended;
    absl::Status status;
    pool.Run(std::make_shared<CallControl>(absl::InfiniteFuture()), &work, [&](const absl::Status& done) {
      status = done;
      ended.Notify();
    });
    ended.WaitForNotification();
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(work.first.size(), 100);
    EXPECT_EQ(work.second.size(), 6);
    EXPECT_EQ(work.lanes(), threads);
    EXPECT_EQ(account.now(), 0) << "scratch is given back at the end";
    EXPECT_EQ(account.peak(MemoryUse::kScratch), threads * 16 * 4);
  }
}

}  // namespace
}  // namespace headlight
