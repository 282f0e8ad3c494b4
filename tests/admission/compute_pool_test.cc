#include "server/admission/compute_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <new>
#include <thread>
#include <vector>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/host/processors.h"

namespace headlight {
namespace {

// One phase of `units` units a lane; each calls `unit`.
class SimpleWork final : public Work {
 public:
  SimpleWork(std::int64_t units, std::function<absl::Status(int)> unit) : units_(units), unit_(std::move(unit)) {}

  absl::StatusOr<int> BeginPhase(int workers) override {
    if (begun_++ > 0) return 0;
    left_.assign(static_cast<std::size_t>(workers), units_);
    return workers;
  }
  absl::StatusOr<bool> RunUnit(int lane) override {
    if (absl::Status status = unit_(lane); !status.ok()) return status;
    ++ran_;
    return --left_[static_cast<std::size_t>(lane)] > 0;
  }
  std::int64_t ran() const { return ran_.load(); }

 private:
  std::int64_t units_;
  std::function<absl::Status(int)> unit_;
  std::vector<std::int64_t> left_;
  std::atomic<std::int64_t> ran_{0};
  int begun_ = 0;
};

std::shared_ptr<CallControl> Forever() { return std::make_shared<CallControl>(absl::InfiniteFuture()); }

// Runs one work to its end.
absl::Status RunToEnd(ComputePool& pool, Work& work, std::shared_ptr<CallControl> control = Forever()) {
  absl::Notification ended;
  absl::Status status;
  pool.Run(std::move(control), &work, [&](const absl::Status& done) {
    status = done;
    ended.Notify();
  });
  ended.WaitForNotification();
  return status;
}

TEST(ComputePool, RunsEveryUnitOfEveryLane) {
  for (const int threads : {1, 2, 8}) {
    ComputePool pool(threads);
    SimpleWork work(50, [](int) { return absl::OkStatus(); });
    EXPECT_TRUE(RunToEnd(pool, work).ok());
    EXPECT_EQ(work.ran(), 50 * threads);
    EXPECT_EQ(pool.workers(), threads);
  }
}

// However many wait, a call that was given up leaves before any other goes on.
TEST(ComputePool, CallsGivenUpWhileTheyWaitLeaveAtOnceAndNeverStart) {
  ComputePool pool(1);
  std::atomic<bool> hold{true};
  std::vector<std::unique_ptr<SimpleWork>> others;
  std::atomic<int> left{0};
  // Young calls of a millisecond a unit: some seconds of waiting in all.
  for (int i = 0; i < 300; ++i) {
    others.push_back(std::make_unique<SimpleWork>(10, [&](int) {
      absl::SleepFor(absl::Milliseconds(1));
      return hold ? absl::OkStatus() : absl::CancelledError("the test is over");
    }));
    ++left;
    pool.Run(Forever(), others.back().get(), [&](const absl::Status&) { --left; });
  }
  SimpleWork given_up(1, [](int) { return absl::OkStatus(); });
  const auto control = std::make_shared<CallControl>(absl::InfiniteFuture());
  absl::Notification ended;
  pool.Run(control, &given_up, [&](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
    ended.Notify();
  });
  control->Cancel();
  ended.WaitForNotification();
  EXPECT_EQ(given_up.ran(), 0);
  EXPECT_GT(left, 290);
  hold = false;
  while (left > 0) absl::SleepFor(absl::Milliseconds(1));
}

TEST(ComputePool, AShortCallDoesNotWaitForALongOne) {
  ComputePool pool(1);
  absl::Notification long_ended;
  std::atomic<std::int64_t> long_units{0};
  SimpleWork endless(1000, [&](int) {
    ++long_units;
    absl::SleepFor(absl::Milliseconds(1));
    return absl::OkStatus();
  });
  pool.Run(Forever(), &endless, [&](const absl::Status&) { long_ended.Notify(); });
  while (long_units.load() < 3) absl::SleepFor(absl::Milliseconds(1));
  SimpleWork brief(5, [](int) { return absl::OkStatus(); });
  EXPECT_TRUE(RunToEnd(pool, brief).ok());
  // Turns are taken one by one: five units of the short call have cost about as many of the long one.
  EXPECT_LT(long_units.load(), 40);
  EXPECT_FALSE(long_ended.HasBeenNotified());
  long_ended.WaitForNotification();
}

// Calls share by time, not by turns or units: of two endless ones, one of long and one of short units, each gets half.
TEST(ComputePool, CallsShareByTime) {
  ComputePool pool(1);
  std::atomic<bool> over{false};
  const auto spin = [&over](std::atomic<std::int64_t>& spent, absl::Duration unit) {
    return [&, unit](int) {
      const absl::Time began = absl::Now();
      while (absl::Now() - began < unit) {
      }
      // As the pool counts: with what the processor did for others meanwhile.
      spent += absl::ToInt64Microseconds(absl::Now() - began);
      return over.load() ? absl::CancelledError("enough") : absl::OkStatus();
    };
  };
  std::atomic<std::int64_t> coarse{0};
  std::atomic<std::int64_t> fine{0};
  SimpleWork first(1'000'000, spin(coarse, absl::Milliseconds(1)));
  SimpleWork second(1'000'000, spin(fine, absl::Microseconds(100)));
  absl::Notification first_ended;
  absl::Notification second_ended;
  pool.Run(Forever(), &first, [&](const absl::Status&) { first_ended.Notify(); });
  pool.Run(Forever(), &second, [&](const absl::Status&) { second_ended.Notify(); });
  // On a busy machine one unit may take as long as a hundred: then for longer, until that evens out.
  const auto even = [&] {
    const double share = static_cast<double>(coarse.load()) / static_cast<double>(coarse.load() + fine.load());
    return share > 0.35 && share < 0.65;
  };
  while (coarse.load() + fine.load() < 300'000 || (coarse.load() + fine.load() < 5'000'000 && !even())) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  over = true;
  first_ended.WaitForNotification();
  second_ended.WaitForNotification();
  const double share = static_cast<double>(coarse.load()) / static_cast<double>(coarse.load() + fine.load());
  EXPECT_GT(share, 0.3);
  EXPECT_LT(share, 0.7);
}

TEST(ComputePool, CancellationIsSeenBetweenUnits) {
  ComputePool pool(2);
  auto control = Forever();
  SimpleWork work(1'000'000, [&](int) {
    control->Cancel();
    return absl::OkStatus();
  });
  EXPECT_EQ(RunToEnd(pool, work, control).code(), absl::StatusCode::kCancelled);
  EXPECT_LE(work.ran(), 4);
}

TEST(ComputePool, ADeadlineEndsTheWork) {
  ComputePool pool(2);
  SimpleWork work(1'000'000, [](int) {
    absl::SleepFor(absl::Milliseconds(1));
    return absl::OkStatus();
  });
  auto control = std::make_shared<CallControl>(absl::Now() + absl::Milliseconds(20));
  EXPECT_EQ(RunToEnd(pool, work, control).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(work.ran(), 200);
}

TEST(ComputePool, ACallCancelledInTheQueueNeverStarts) {
  ComputePool pool(1);
  auto control = Forever();
  control->Cancel();
  SimpleWork work(1, [](int) { return absl::OkStatus(); });
  EXPECT_EQ(RunToEnd(pool, work, control).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(work.ran(), 0);
}

TEST(ComputePool, ErrorsAndExceptionsEndTheirOwnCallOnly) {
  ComputePool pool(2);
  SimpleWork failing(10, [](int) { return absl::InvalidArgumentError("no"); });
  EXPECT_EQ(RunToEnd(pool, failing).code(), absl::StatusCode::kInvalidArgument);
  SimpleWork starving(10, [](int) -> absl::Status { throw std::bad_alloc(); });
  EXPECT_EQ(RunToEnd(pool, starving).code(), absl::StatusCode::kResourceExhausted);
  SimpleWork throwing(10, [](int) -> absl::Status { throw std::runtime_error("boom"); });
  EXPECT_EQ(RunToEnd(pool, throwing).code(), absl::StatusCode::kInternal);
  SimpleWork fine(10, [](int) { return absl::OkStatus(); });
  EXPECT_TRUE(RunToEnd(pool, fine).ok());
}

TEST(ComputePool, FinishesWhatWasAcceptedBeforeItEnds) {
  std::atomic<int> ended{0};
  std::vector<std::unique_ptr<SimpleWork>> works;
  {
    ComputePool pool(2);
    for (int i = 0; i < 50; ++i) {
      works.push_back(std::make_unique<SimpleWork>(20, [](int) { return absl::OkStatus(); }));
      pool.Run(Forever(), works.back().get(), [&](const absl::Status& status) { ended += status.ok() ? 1 : 0; });
    }
  }
  EXPECT_EQ(ended.load(), 50);
}

// The processor that each lane ran on.
std::vector<std::vector<int>> ProcessorsOfLanes(int threads) {
  ComputePool pool(threads);
  std::vector<std::vector<int>> seen(static_cast<std::size_t>(threads));
  absl::Barrier* all = new absl::Barrier(threads);
  SimpleWork work(1, [&](int lane) {
    if (all->Block()) delete all;  // so that each lane has a worker of its own
    seen[static_cast<std::size_t>(lane)] = AllowedProcessors();
    return absl::OkStatus();
  });
  EXPECT_TRUE(RunToEnd(pool, work).ok());
  return seen;
}

TEST(ComputePool, AWorkerForEachProcessorKeepsToIt) {
  const std::vector<int> all = AllowedProcessors();
  const int count = static_cast<int>(all.size());
  std::vector<int> kept;
  for (const std::vector<int>& of_lane : ProcessorsOfLanes(count)) {
    ASSERT_EQ(of_lane.size(), 1);
    kept.push_back(of_lane[0]);
  }
  EXPECT_THAT(kept, testing::UnorderedElementsAreArray(all));
  for (const std::vector<int>& of_lane : ProcessorsOfLanes(count + 1)) EXPECT_EQ(of_lane, all);
}

TEST(ComputePool, TellsHowLongAWorkerHangsAndIsIdleAfterwards) {
  ComputePool pool(2);
  absl::Notification hung;
  // One worker hangs; the other goes on.
  SimpleWork work(1000, [&](int lane) {
    absl::SleepFor(absl::Microseconds(100));
    if (lane == 0) hung.WaitForNotification();
    return absl::OkStatus();
  });
  std::thread caller([&] { EXPECT_TRUE(RunToEnd(pool, work).ok()); });
  const absl::Time began = absl::Now();
  while (pool.longest_step() < absl::Milliseconds(50)) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_GE(absl::Now() - began, absl::Milliseconds(50) - absl::Milliseconds(5));
  hung.Notify();
  caller.join();
  for (int i = 0; i < 1000 && pool.busy() > 0; ++i) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(pool.busy(), 0);
  EXPECT_EQ(pool.longest_step(), absl::ZeroDuration());
}

#if defined(__SANITIZE_THREAD__)
// Without this a run under ThreadSanitizer that finds nothing would say nothing.
TEST(ComputePoolDeathTest, ARaceIsCaught) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        ComputePool pool(2);
        volatile std::int64_t counted = 0;  // each of the thousand is one
        std::atomic<int> here{0};
        SimpleWork work(1, [&](int) {
          // Both at once, and nothing that would order what they do.
          here.fetch_add(1, std::memory_order_relaxed);
          while (here.load(std::memory_order_relaxed) < 2) std::this_thread::yield();
          for (int i = 0; i < 1000; ++i) counted = counted + 1;
          return absl::OkStatus();
        });
        RunToEnd(pool, work).IgnoreError();
        std::exit(counted > 0 ? 0 : 1);
      },
      testing::ExitedWithCode(66), "data race");
}
#endif

}  // namespace
}  // namespace headlight
