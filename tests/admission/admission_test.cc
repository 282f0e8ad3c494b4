#include "server/admission/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "server/base/errors.h"

namespace headlight {
namespace {

// Two workers at 20 GFLOP/s until calls are learned from.
constexpr double kRate = 2e10;

class AdmissionTest : public testing::Test {
 protected:
  AdmissionTest() { admission_.Open(); }

  static AdmissionOptions Options() {
    AdmissionOptions options;
    options.workers = 2;
    options.max_wait_seconds = 1;
    options.max_call_seconds = 10;
    options.max_calls = 50;
    options.memory_budget_bytes = 1000;
    return options;
  }
  AdmissionOptions Counted(AdmissionOptions options) {
    options.decided = [this](Decision decision) { ++decided_[decision]; };
    return options;
  }

  // Of so many seconds of one worker.
  static CallCost Taking(double worker_seconds, std::int64_t bytes = 1) {
    CallCost cost;
    cost.flops = static_cast<std::int64_t>(worker_seconds * kRate);
    cost.bytes = bytes;
    cost.field = "query_key_value";
    return cost;
  }

  absl::StatusOr<Ticket> Admit(const CallCost& cost, Priority priority = Priority::kInteractive,
                               absl::Duration left = absl::InfiniteDuration()) {
    return admission_.Admit(cost, priority, absl::Now() + left);
  }

  // Refused as overloaded, for this cause, with a delay.
  static void ExpectOverloaded(const absl::Status& status, absl::string_view cause) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    const ErrorDetails details = DetailsOf(status);
    EXPECT_EQ(details.reason, ErrorReason::kServerOverloaded);
    EXPECT_EQ(details.metadata.at("cause"), cause);
    EXPECT_GT(details.retry_after_seconds, 0);
  }

  std::map<Decision, int> decided_;
  MemoryLedger ledger_;
  Admission admission_{Counted(Options()), &ledger_};
};

TEST_F(AdmissionTest, ATicketHoldsItsPlaceUntilItEnds) {
  {
    const auto ticket = Admit(Taking(0.4, 600));
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    EXPECT_EQ(admission_.calls(), 1);
    EXPECT_EQ(admission_.reserved_bytes(), 600);
    EXPECT_NEAR(admission_.backlog_seconds(), 0.2, 0.01);
    ticket->control()->AddWorkerTime(300'000'000);
    EXPECT_NEAR(admission_.backlog_seconds(), 0.05, 0.01);
    ticket->control()->AddWorkerTime(300'000'000);  // longer than estimated
    EXPECT_EQ(admission_.backlog_seconds(), 0);
  }
  EXPECT_EQ(admission_.calls(), 0);
  EXPECT_EQ(admission_.reserved_bytes(), 0);
  EXPECT_EQ(admission_.admitted(), 1);
  EXPECT_EQ(decided_, (std::map<Decision, int>{{Decision::kAdmitted, 1}}));
}

// Who calls again at once after an answer does not wait for what was estimated too high.
TEST_F(AdmissionTest, DoesNotWaitForCallsThatAreComputed) {
  const auto computed = Admit(Taking(8));
  ASSERT_TRUE(computed.ok()) << computed.status();
  ExpectOverloaded(Admit(Taking(8)).status(), "wait");
  computed->control()->EndComputing();
  EXPECT_EQ(admission_.backlog_seconds(), 0);
  EXPECT_TRUE(Admit(Taking(8)).ok());
}

TEST_F(AdmissionTest, BoundsTheWaitThatIsPredicted) {
  std::vector<Ticket> tickets;
  absl::Status refused;
  while (refused.ok()) {
    absl::StatusOr<Ticket> ticket = Admit(Taking(0.49));
    refused = ticket.status();
    if (ticket.ok()) tickets.push_back(*std::move(ticket));
  }
  // Each call before it takes half a second of one of two workers beside it.
  EXPECT_EQ(tickets.size(), 5U);
  ExpectOverloaded(refused, "wait");
  // In about a backlog's time, each at another.
  const double retry = DetailsOf(refused).retry_after_seconds;
  EXPECT_GE(retry, 0.75 * admission_.backlog_seconds());
  EXPECT_LE(retry, 1.25 * admission_.backlog_seconds());
  EXPECT_NE(DetailsOf(Admit(Taking(0.49)).status()).retry_after_seconds, retry);
  // A batch call may wait half as long.
  tickets.clear();
  for (int i = 0; i < 3; ++i) tickets.push_back(Admit(Taking(0.49)).value());
  ExpectOverloaded(Admit(Taking(0.49), Priority::kBatch).status(), "wait");
  EXPECT_TRUE(Admit(Taking(0.49)).ok());
}

TEST_F(AdmissionTest, AShortCallDoesNotWaitForHugeOnes) {
  std::vector<Ticket> tickets;
  for (int i = 0; i < 2; ++i) tickets.push_back(Admit(Taking(i == 0 ? 15 : 1.5)).value());
  EXPECT_GT(admission_.backlog_seconds(), 8);
  const Quote quote = admission_.Predict(Taking(0.01), Priority::kBatch);
  EXPECT_EQ(quote.decision, Decision::kAdmitted);
  EXPECT_LT(quote.wait_seconds, 0.02);
  EXPECT_TRUE(Admit(Taking(0.01), Priority::kBatch, absl::Milliseconds(100)).ok());
}

// Workers leave a call that was given up at their next step, before whatever comes now.
TEST_F(AdmissionTest, DoesNotWaitForCallsThatWereGivenUp) {
  auto cancelled = Admit(Taking(8));
  ASSERT_TRUE(cancelled.ok()) << cancelled.status();
  ExpectOverloaded(Admit(Taking(8)).status(), "wait");
  cancelled->control()->Cancel();
  EXPECT_EQ(admission_.backlog_seconds(), 0);
  EXPECT_TRUE(Admit(Taking(8)).ok());
  const auto late = admission_.Admit(Taking(0.01), Priority::kInteractive, absl::Now() + absl::Milliseconds(30));
  ASSERT_TRUE(late.ok()) << late.status();
  absl::SleepFor(absl::Milliseconds(31));
  EXPECT_EQ(admission_.backlog_seconds(), 0);
}

// Whoever takes an hour to send what is to be computed keeps nobody else from computing.
TEST_F(AdmissionTest, DoesNotWaitForCallsWhoseDataStillComes) {
  auto sending = Admit(Taking(8));
  ASSERT_TRUE(sending.ok()) << sending.status();
  sending->control()->SetReceiving(true);
  EXPECT_EQ(admission_.backlog_seconds(), 0);
  EXPECT_TRUE(Admit(Taking(8)).ok());
  sending->control()->SetReceiving(false);
  ExpectOverloaded(Admit(Taking(8)).status(), "wait");
}

TEST_F(AdmissionTest, RefusesDeadlinesThatCannotBeMet) {
  const absl::Status status = Admit(Taking(4), Priority::kInteractive, absl::Seconds(1)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kDeadlineExceeded);
  EXPECT_TRUE(Admit(Taking(4), Priority::kInteractive, absl::Seconds(3)).ok());
  // What is under way counts.
  const Ticket other = Admit(Taking(1)).value();
  EXPECT_FALSE(Admit(Taking(1), Priority::kInteractive, absl::Milliseconds(700)).ok());
  EXPECT_EQ(decided_[Decision::kDeadline], 2);
}

TEST_F(AdmissionTest, WhatCouldNeverFitIsTheRequestsFault) {
  for (const CallCost& cost : {Taking(30), Taking(0.1, 1001)}) {
    const absl::Status status = Admit(cost).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kRequestTooExpensive);
    EXPECT_EQ(DetailsOf(status).violations.at(0).field, "query_key_value");
  }
  EXPECT_EQ(decided_[Decision::kTooExpensive], 2);
}

TEST_F(AdmissionTest, BoundsCallsAndMemory) {
  std::vector<Ticket> tickets;
  tickets.push_back(Admit(Taking(0.001, 900)).value());
  ExpectOverloaded(Admit(Taking(0.001, 101)).status(), "memory");
  tickets.push_back(Admit(Taking(0.001, 50)).value());
  while (tickets.size() < 50) tickets.push_back(Admit(Taking(0.001)).value());
  ExpectOverloaded(Admit(Taking(0.001)).status(), "calls");
  tickets.pop_back();
  EXPECT_TRUE(Admit(Taking(0.001)).ok());
}

// Whoever does not read holds memory, but shuts nobody out.
TEST_F(AdmissionTest, AnswersThatAreBeingSentAreNoCallsUnderWay) {
  std::vector<Ticket> tickets;
  for (int i = 0; i < 50; ++i) {
    auto ticket = Admit(Taking(0));
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    tickets.push_back(*std::move(ticket));
  }
  ExpectOverloaded(Admit(Taking(0)).status(), "calls");
  for (const Ticket& ticket : tickets) ticket.control()->EndComputing();
  EXPECT_EQ(admission_.calls(), 0);
  EXPECT_EQ(admission_.reserved_bytes(), 50);
  EXPECT_TRUE(Admit(Taking(0)).ok());
  while (tickets.size() < 16 * 50) {
    auto ticket = Admit(Taking(0));
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    ticket->control()->EndComputing();
    tickets.push_back(*std::move(ticket));
  }
  ExpectOverloaded(Admit(Taking(0)).status(), "calls");
}

TEST_F(AdmissionTest, WhatIsHeldBeyondCallsIsTakenFromTheirBudget) {
  auto held = admission_.Hold(700, "chunk");
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(admission_.reserved_bytes(), 700);
  EXPECT_EQ(admission_.calls(), 0);
  // No call's end would make room for these: nothing is said of when to come again.
  for (const absl::Status& status : {Admit(Taking(0.1, 400)).status(), admission_.Hold(301, "chunk").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(DetailsOf(status).retry_after_seconds, 0);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("of which layers hold 700"));
  }
  const auto call = Admit(Taking(0.1, 200));
  ExpectOverloaded(Admit(Taking(0.1, 200)).status(), "memory");
  const absl::Status never = admission_.Hold(1001, "chunk").status();
  EXPECT_EQ(DetailsOf(never).reason, ErrorReason::kRequestTooExpensive);
  EXPECT_EQ(DetailsOf(never).violations.at(0).field, "chunk");
  EXPECT_EQ(admission_.reserved_bytes(), 900);
  held->reset();
  EXPECT_EQ(admission_.reserved_bytes(), 200);
  EXPECT_TRUE(Admit(Taking(0.1, 400)).ok());
}

TEST_F(AdmissionTest, ShedsBatchFirstUnderPressure) {
  admission_.SetPressure(MemoryPressure::kShedBatch);
  ExpectOverloaded(Admit(Taking(0.001), Priority::kBatch).status(), "memory_pressure");
  EXPECT_TRUE(Admit(Taking(0.001)).ok());
  admission_.SetPressure(MemoryPressure::kShedAll);
  ExpectOverloaded(Admit(Taking(0.001)).status(), "memory_pressure");
  admission_.SetPressure(MemoryPressure::kNone);
  EXPECT_TRUE(Admit(Taking(0.001), Priority::kBatch).ok());
}

TEST_F(AdmissionTest, ItsGateOpensAndCloses) {
  Admission admission(Counted(Options()), &ledger_);
  EXPECT_EQ(DetailsOf(admission.Gate()).reason, ErrorReason::kNotReady);
  EXPECT_TRUE(admission.Admit(Taking(0.001), Priority::kInteractive, absl::InfiniteFuture()).ok());  // the server's own
  EXPECT_EQ(decided_, (std::map<Decision, int>{{Decision::kNotReady, 1}}));
  admission.Open();
  EXPECT_TRUE(admission.Gate().ok());
  admission.Close();
  const absl::Status status = admission.Gate();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kDraining);
  EXPECT_GT(DetailsOf(status).retry_after_seconds, 0);
}

TEST_F(AdmissionTest, LearnsFromCallsThatWereDone) {
  Ticket ticket = Admit(Taking(1)).value();
  ticket.control()->AddWorkerTime(4'000'000'000);
  EXPECT_NEAR(ticket.Learn(), 4, 0.01);
  EXPECT_NEAR(admission_.Predict(Taking(1), Priority::kInteractive).compute_seconds, 2, 0.01);
}

}  // namespace
}  // namespace headlight
