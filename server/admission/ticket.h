// What an accepted call holds from acceptance to answer. Everything that computes needs one.
#ifndef HEADLIGHT_SERVER_ADMISSION_TICKET_H_
#define HEADLIGHT_SERVER_ADMISSION_TICKET_H_

#include <atomic>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/base/memory.h"

namespace headlight {

// Whether a call still has someone waiting for it. Shared by those who end it (the service) and those who ask (the
// workers). Thread-safe.
class CallControl {
 public:
  // `aborted` (may be null) is raised when the server can wait no longer; it outlives this.
  explicit CallControl(absl::Time deadline, const std::atomic<bool>* aborted = nullptr)
      : aborted_(aborted), deadline_(deadline) {}

  // The client went away.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  // OK, CANCELLED, DEADLINE_EXCEEDED, or UNAVAILABLE with DRAIN_ABORTED.
  absl::Status Check(absl::Time now) const;

 private:
  std::atomic<bool> cancelled_{false};
  const std::atomic<bool>* aborted_;
  absl::Time deadline_;
};

// Move-only; destroying it gives the place back. Its memory account outlives every buffer of the call.
class Ticket {
 public:
  // `calls` counts the tickets there are; it, `ledger` and `aborted` (see CallControl) outlive the ticket.
  Ticket(std::atomic<std::int64_t>& calls, MemoryLedger* ledger, absl::Time deadline,
         const std::atomic<bool>* aborted = nullptr);
  Ticket(Ticket&& other) noexcept = default;
  Ticket& operator=(Ticket&& other) noexcept = default;

  MemoryAccount& account() const { return *account_; }
  const std::shared_ptr<CallControl>& control() const { return control_; }
  absl::Time accepted() const { return accepted_; }

 private:
  struct GiveBack {
    void operator()(std::atomic<std::int64_t>* calls) const { calls->fetch_sub(1); }
  };
  std::unique_ptr<std::atomic<std::int64_t>, GiveBack> place_;
  std::unique_ptr<MemoryAccount> account_;
  std::shared_ptr<CallControl> control_;
  absl::Time accepted_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ADMISSION_TICKET_H_
