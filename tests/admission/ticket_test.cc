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

// Counts those that live.
class CountedPlace final : public Ticket::Place {
 public:
  explicit CountedPlace(int& places) : places_(places) { ++places_; }
  ~CountedPlace() override { --places_; }
  CountedPlace(const CountedPlace&) = delete;
  CountedPlace& operator=(const CountedPlace&) = delete;
  double Learn(double worker_seconds) override { return worker_seconds; }

 private:
  int& places_;
};

TEST(Ticket, GivesItsPlaceBackOnceHoweverItIsMoved) {
  int places = 0;
  MemoryLedger ledger;
  {
    Ticket first(std::make_unique<CountedPlace>(places), &ledger,
                 std::make_shared<CallControl>(absl::InfiniteFuture()));
    EXPECT_EQ(places, 1);
    Ticket second = std::move(first);
    EXPECT_EQ(places, 1);
    second.account().Add(MemoryUse::kScratch, 10);
    EXPECT_EQ(ledger.now(), 10);
    second.account().Add(MemoryUse::kScratch, -10);
    second.control()->AddWorkerTime(250'000'000);
    EXPECT_EQ(second.Learn(), 0.25);
  }
  EXPECT_EQ(places, 0);
  EXPECT_EQ(ledger.now(), 0);
  EXPECT_EQ(ledger.peak(), 10);
}

}  // namespace
}  // namespace headlight
