#include "server/admission/ticket.h"

#include "absl/time/clock.h"

namespace headlight {

absl::Status CallControl::Check(absl::Time now) const {
  if (cancelled_.load(std::memory_order_relaxed)) return absl::CancelledError("the client went away");
  if (now >= deadline_) return absl::DeadlineExceededError("the deadline passed while the call was computed");
  return absl::OkStatus();
}

Ticket::Ticket(std::atomic<std::int64_t>& calls, MemoryLedger* ledger, absl::Time deadline)
    : place_(&calls),
      account_(std::make_unique<MemoryAccount>(ledger)),
      control_(std::make_shared<CallControl>(deadline)),
      accepted_(absl::Now()) {
  calls.fetch_add(1);
}

}  // namespace headlight
