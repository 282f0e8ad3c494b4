// What an accepted call holds from acceptance to answer. Everything that computes needs one.
#ifndef HEADLIGHT_SERVER_ADMISSION_TICKET_H_
#define HEADLIGHT_SERVER_ADMISSION_TICKET_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/base/memory.h"

namespace headlight {

// UNAVAILABLE with DRAIN_ABORTED: the server can wait for the call no longer.
absl::Status DrainAborted();

// Whether a call still has someone waiting for it. Shared by those who end it (the service) and those who ask (the
// workers). Thread-safe.
class CallControl {
 public:
  // `aborted` (may be null) is raised when the server can wait no longer; it outlives this. `expected`: workers' time
  // that the call is predicted to take; zero where nothing is known.
  explicit CallControl(absl::Time deadline, const std::atomic<bool>* aborted = nullptr,
                       absl::Duration expected = absl::ZeroDuration())
      : aborted_(aborted), deadline_(deadline), expected_(expected) {}

  // The client went away.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  // Whether nobody waits for it any more. Its workers leave at their next step.
  bool GivenUp(absl::Time now) const {
    return cancelled_.load(std::memory_order_relaxed) || now >= deadline_ ||
           (aborted_ != nullptr && aborted_->load(std::memory_order_relaxed));
  }
  // OK, CANCELLED, DEADLINE_EXCEEDED, or UNAVAILABLE with DRAIN_ABORTED.
  absl::Status Check(absl::Time now) const;

  absl::Duration expected() const { return expected_; }

  // Its data is still coming, so workers have nothing to do for it yet.
  void SetReceiving(bool receiving) { receiving_.store(receiving, std::memory_order_relaxed); }
  bool receiving() const { return receiving_.load(std::memory_order_relaxed); }

  // Workers have nothing left to do for it, whatever had been expected.
  void EndComputing() { computed_.store(true, std::memory_order_relaxed); }
  bool computed() const { return computed_.load(std::memory_order_relaxed); }

  // Time that workers spent on the call, all together.
  void AddWorkerTime(std::int64_t nanoseconds) { worker_nanos_.fetch_add(nanoseconds, std::memory_order_relaxed); }
  double worker_seconds() const { return static_cast<double>(worker_nanos_.load(std::memory_order_relaxed)) * 1e-9; }

 private:
  std::atomic<std::int64_t> worker_nanos_{0};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> receiving_{false};
  std::atomic<bool> computed_{false};
  const std::atomic<bool>* aborted_;
  const absl::Time deadline_;
  const absl::Duration expected_;
};

// Move-only; destroying it gives the place back. Its memory account outlives every buffer of the call.
class Ticket {
 public:
  // What a ticket holds on to; its end gives that back.
  class Place {
   public:
    virtual ~Place() = default;
    // The call took so many seconds of workers' time. Returns that as a multiple of what was estimated.
    virtual double Learn(double worker_seconds) = 0;
  };

  // `ledger` outlives the ticket.
  Ticket(std::unique_ptr<Place> place, MemoryLedger* ledger, std::shared_ptr<CallControl> control);
  Ticket(Ticket&& other) noexcept = default;
  Ticket& operator=(Ticket&& other) noexcept = default;

  // The call was done: what it took is learned from. Returns that as a multiple of the estimate.
  double Learn() { return place_->Learn(control_->worker_seconds()); }

  MemoryAccount& account() const { return *account_; }
  const std::shared_ptr<CallControl>& control() const { return control_; }
  absl::Time accepted() const { return accepted_; }

 private:
  std::unique_ptr<Place> place_;
  std::unique_ptr<MemoryAccount> account_;
  std::shared_ptr<CallControl> control_;
  absl::Time accepted_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ADMISSION_TICKET_H_
