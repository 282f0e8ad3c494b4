// The virtual time of fair queueing: when each call would end if all were served side by side.
// Parekh and Gallager, "A Generalized Processor Sharing Approach to Flow Control in Integrated Services Networks: The
// Single-Node Case" (1993).
#ifndef HEADLIGHT_SERVER_ADMISSION_FAIR_CLOCK_H_
#define HEADLIGHT_SERVER_ADMISSION_FAIR_CLOCK_H_

#include <cstdint>
#include <vector>

namespace headlight {

// Nanoseconds of service that a call would have had which was there from the start. A call that needs so much service
// is due when that much virtual time has passed; calls served in the order in which they are due end no later than side
// by side, but one of equals ends before the next begins. Not thread-safe.
class FairClock {
 public:
  // A call begins that is expected to need so much service. Returns when it is due. Throws std::bad_alloc; then nothing
  // has begun.
  std::int64_t Begin(std::int64_t expected);

  // So much service was given, to whomever, of what was expected. A call that ended before it had all of that gives the
  // rest here: else those that wait would seem to have had less than they have, or more.
  void Advance(std::int64_t service);

  // So much service went to a call beyond what was expected of it; `calls`, at least 1, are there. Time goes on by it
  // only where nobody has anything left of what was expected.
  void Exceed(std::int64_t service, std::int64_t calls);

  // A call that was due then will not be served to its end.
  void GiveUp(std::int64_t due);

  std::int64_t now() const { return static_cast<std::int64_t>(now_); }

 private:
  double now_ = 0;
  std::vector<std::int64_t> dues_;  // of calls that would still be served side by side: a heap, the first in front
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ADMISSION_FAIR_CLOCK_H_
