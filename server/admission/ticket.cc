#include "server/admission/ticket.h"

#include "absl/time/clock.h"
#include "server/base/errors.h"

namespace headlight {

absl::Status CallControl::Check(absl::Time now) const {
  if (cancelled_.load(std::memory_order_relaxed)) return absl::CancelledError("the client went away");
  if (aborted_ != nullptr && aborted_->load(std::memory_order_relaxed)) {
    ErrorDetails details;
    details.reason = ErrorReason::kDrainAborted;
    details.retry_after_seconds = 1;
    return MakeError(absl::StatusCode::kUnavailable, "the server stopped before the call was done", details);
  }
  if (now >= deadline_) return absl::DeadlineExceededError("the deadline passed while the call was computed");
  return absl::OkStatus();
}

Ticket::Ticket(std::atomic<std::int64_t>& calls, MemoryLedger* ledger, absl::Time deadline,
               const std::atomic<bool>* aborted)
    : account_(std::make_unique<MemoryAccount>(ledger)),
      control_(std::make_shared<CallControl>(deadline, aborted)),
      accepted_(absl::Now()) {
  // Last: what throws above must not give back a place that was never taken.
  calls.fetch_add(1);
  place_.reset(&calls);
}

}  // namespace headlight
