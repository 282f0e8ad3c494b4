// What admission decides about calls.
#ifndef HEADLIGHT_SERVER_BASE_DECISION_H_
#define HEADLIGHT_SERVER_BASE_DECISION_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace headlight {

// What was decided about a call: taken, or refused for a reason.
enum class Decision : std::uint8_t {
  kAdmitted,
  kTooExpensive,    // by itself it is beyond what one call may take
  kDeadline,        // it could not be met
  kWait,            // it would wait too long
  kCalls,           // too many calls are under way
  kMemory,          // the memory budget has no room now
  kMemoryPressure,  // the cgroup is near its limit
  kNotReady,
  kDraining,
};
inline constexpr int kDecisions = 9;

constexpr absl::string_view NameOf(Decision decision) {
  constexpr std::array<absl::string_view, kDecisions> kNames = {
      "admitted", "too_expensive", "deadline", "wait", "calls", "memory", "memory_pressure", "not_ready", "draining"};
  return kNames[static_cast<std::size_t>(decision)];
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BASE_DECISION_H_
