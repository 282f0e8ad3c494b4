#include "server/admission/ticket.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"

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
