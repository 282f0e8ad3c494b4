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

class MemoryWatchTest : public testing::Test {
 protected:
  Decision decision() const { return admission_.Predict({}, Priority::kInteractive).decision; }

  MemoryLedger ledger_;
  Admission admission_{{.workers = 1}, &ledger_};
  std::atomic<std::int64_t> used_{50}, resident_{100 << 20};
  std::atomic<int> released_{0};
  MemoryWatch watch_{{[this] {
                        return MemoryReading{true, 100, used_.load()};
                      },
                      [this] { return resident_.load(); },
                      [this] {
                        ++released_;
                        resident_ = 100 << 20;
                      },
                      absl::Milliseconds(1), absl::Milliseconds(20)},
                     admission_};
};

TEST_F(MemoryWatchTest, ShedsAndReleasesWhileThereIsPressure) {
  used_ = 95;
  WaitUntil([&] { return decision() == Decision::kMemoryPressure && released_ > 1; });
  used_ = 10;
  WaitUntil([&] { return decision() == Decision::kAdmitted; });
}

TEST_F(MemoryWatchTest, ReleasesOnceIdleWhatTheProcessHasGrownBy) {
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(released_, 0);  // there was nothing to release
  {
    const auto ticket = admission_.Admit({}, Priority::kInteractive, absl::InfiniteFuture());
    resident_ = 200 << 20;
    absl::SleepFor(absl::Milliseconds(100));
    EXPECT_EQ(released_, 0);  // the call is under way
  }
  WaitUntil([&] { return released_ == 1; });
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(released_, 1);
  resident_ = 300 << 20;  // requests that were refused
  WaitUntil([&] { return released_ == 2; });
}

}  // namespace
}  // namespace headlight
