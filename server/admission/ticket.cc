#include "server/admission/ticket.h"

#include <utility>

#include "absl/time/clock.h"
#include "server/base/errors.h"

namespace headlight {

absl::Status DrainAborted() {
  ErrorDetails details;
  details.reason = ErrorReason::kDrainAborted;
  details.retry_after_seconds = 1;
  return MakeError(absl::StatusCode::kUnavailable, "the server stopped before the call was done", details);
}

absl::Status CallControl::Check(absl::Time now) const {
  if (cancelled_.load(std::memory_order_relaxed)) return absl::CancelledError("the client went away");
  if (aborted_ != nullptr && aborted_->load(std::memory_order_relaxed)) return DrainAborted();
  if (now >= deadline_) return absl::DeadlineExceededError("the deadline passed while the call was computed");
  return absl::OkStatus();
}

Ticket::Ticket(std::unique_ptr<Place> place, MemoryLedger* ledger, std::shared_ptr<CallControl> control)
    : place_(std::move(place)),
      account_(std::make_unique<MemoryAccount>(ledger)),
      control_(std::move(control)),
      accepted_(absl::Now()) {}

}  // namespace headlight
