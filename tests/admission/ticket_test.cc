#include "server/admission/ticket.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "server/base/errors.h"

namespace headlight {
namespace {

TEST(CallControl, IsCancelledOrPastItsDeadlineOrNeither) {
  const absl::Time now = absl::Now();
  CallControl control(now + absl::Seconds(1));
  EXPECT_TRUE(control.Check(now).ok());
  EXPECT_EQ(control.Check(now + absl::Seconds(1)).code(), absl::StatusCode::kDeadlineExceeded);
  control.Cancel();
  EXPECT_EQ(control.Check(now).code(), absl::StatusCode::kCancelled);
}

TEST(CallControl, IsAbortedWhenTheServerCanWaitNoLonger) {
  std::atomic<bool> aborted{false};
  const CallControl control(absl::InfiniteFuture(), &aborted);
  EXPECT_TRUE(control.Check(absl::Now()).ok());
  aborted = true;
  const absl::Status status = control.Check(absl::Now());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kDrainAborted);
  EXPECT_GT(DetailsOf(status).retry_after_seconds, 0);
}

TEST(Ticket, GivesItsPlaceBackOnceHoweverItIsMoved) {
  std::atomic<std::int64_t> calls{0};
  MemoryLedger ledger;
  {
    Ticket first(calls, &ledger, absl::InfiniteFuture());
    EXPECT_EQ(calls.load(), 1);
    Ticket second = std::move(first);
    EXPECT_EQ(calls.load(), 1);
    second.account().Add(MemoryUse::kScratch, 10);
    EXPECT_EQ(ledger.now(), 10);
    second.account().Add(MemoryUse::kScratch, -10);
  }
  EXPECT_EQ(calls.load(), 0);
  EXPECT_EQ(ledger.now(), 0);
  EXPECT_EQ(ledger.peak(), 10);
}

}  // namespace
}  // namespace headlight
