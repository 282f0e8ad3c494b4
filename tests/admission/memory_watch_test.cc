#include "server/admission/memory_watch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>

#include "absl/time/clock.h"

namespace headlight {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

TEST(PressureOf, FollowsTheCgroupAlone) {
  EXPECT_EQ(PressureOf({true, 100, 84}), MemoryPressure::kNone);
  EXPECT_EQ(PressureOf({true, 100, 85}), MemoryPressure::kShedBatch);
  EXPECT_EQ(PressureOf({true, 100, 92}), MemoryPressure::kShedAll);
  EXPECT_EQ(PressureOf({false, 100, 99}), MemoryPressure::kNone);
  EXPECT_EQ(PressureOf({}), MemoryPressure::kNone);
}

TEST(MemoryBudget, IsAShareOfWhatIsLeft) {
  EXPECT_EQ(MemoryBudget({true, 4 * kGiB, kGiB}, kGiB), static_cast<std::int64_t>(0.7 * 2 * kGiB));
  EXPECT_EQ(MemoryBudget({}, 0), 0);
  EXPECT_EQ(MemoryBudget({true, kGiB, 2 * kGiB}, 0), 1);  // nothing is left: not "no bound"
}

void WaitUntil(const std::function<bool()>& done) {
  for (int i = 0; i < 20'000 && !done(); ++i) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_TRUE(done());
}

TEST(MemoryWatch, ShedsWhileThereIsPressureAndReleasesOnceIdle) {
  MemoryLedger ledger;
  Admission admission({.workers = 1}, &ledger);
  std::atomic<std::int64_t> used{50};
  std::atomic<int> released{0};
  MemoryWatch watch({[&] {
                       return MemoryReading{true, 100, used.load()};
                     },
                     [&] { ++released; }, absl::Milliseconds(1), absl::Milliseconds(20)},
                    admission);
  const auto decision = [&] { return admission.Predict({}, Priority::kInteractive).decision; };
  used = 95;
  WaitUntil([&] { return decision() == Decision::kMemoryPressure; });
  used = 10;
  WaitUntil([&] { return decision() == Decision::kAdmitted; });
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(released, 0);  // there was nothing to release
  { const auto ticket = admission.Admit({}, Priority::kInteractive, absl::InfiniteFuture()); }
  WaitUntil([&] { return released == 1; });
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(released, 1);
}

}  // namespace
}  // namespace headlight
