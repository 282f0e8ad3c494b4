// How many messages the log has had, by severity.
#ifndef HEADLIGHT_SERVER_TELEMETRY_LOG_COUNTS_H_
#define HEADLIGHT_SERVER_TELEMETRY_LOG_COUNTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace headlight {

enum class Severity : std::uint8_t { kDebug, kInfo, kWarning, kError, kCritical };
inline constexpr int kSeverities = 5;

constexpr absl::string_view NameOf(Severity severity) {
  constexpr std::array<absl::string_view, kSeverities> kNames = {"debug", "info", "warning", "error", "critical"};
  return kNames[static_cast<std::size_t>(severity)];
}

// Thread-safe.
class LogCounts {
 public:
  void Add(Severity severity) { At(severity).fetch_add(1, std::memory_order_relaxed); }
  std::int64_t Of(Severity severity) const {
    return counts_[static_cast<std::size_t>(severity)].load(std::memory_order_relaxed);
  }

 private:
  std::atomic<std::int64_t>& At(Severity severity) { return counts_[static_cast<std::size_t>(severity)]; }
  std::array<std::atomic<std::int64_t>, kSeverities> counts_{};
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_TELEMETRY_LOG_COUNTS_H_
