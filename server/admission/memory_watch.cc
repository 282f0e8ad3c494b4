#include "server/admission/memory_watch.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace headlight {

// What is worth giving back.
constexpr std::int64_t kGrown = std::int64_t{4} << 20;

MemoryPressure PressureOf(const MemoryReading& reading) {
  if (!reading.of_cgroup || reading.limit_bytes <= 0) return MemoryPressure::kNone;
  const double share = static_cast<double>(reading.used_bytes) / static_cast<double>(reading.limit_bytes);
  if (share >= 0.92) return MemoryPressure::kShedAll;
  return share >= 0.85 ? MemoryPressure::kShedBatch : MemoryPressure::kNone;
}

std::int64_t MemoryBudget(const MemoryReading& at_start, std::int64_t grpc_bytes) {
  if (at_start.limit_bytes <= 0) return 0;
  const std::int64_t left = at_start.limit_bytes - at_start.used_bytes - grpc_bytes;
  return std::max<std::int64_t>(static_cast<std::int64_t>(0.7 * static_cast<double>(left)), 1);
}

MemoryWatch::MemoryWatch(Options options, Admission& admission)
    : options_(std::move(options)), admission_(admission), thread_([this] { Watch(); }) {}

MemoryWatch::~MemoryWatch() {
  stopping_.Notify();
  thread_.join();
}

void MemoryWatch::Watch() {
  absl::Time rests_since = absl::Now();
  std::int64_t admitted = admission_.admitted(), at_rest = options_.resident();
  while (!stopping_.WaitForNotificationWithTimeout(options_.interval)) {
    const MemoryPressure pressure = PressureOf(options_.read());
    admission_.SetPressure(pressure);
    if (pressure != MemoryPressure::kNone) options_.release();
    const absl::Time now = absl::Now();
    if (const std::int64_t seen = admission_.admitted(); seen != admitted || admission_.calls() > 0) {
      admitted = seen;
      rests_since = now;
    }
    if (now - rests_since < options_.idle) continue;
    rests_since = now;
    // Not only calls that were admitted take memory: what is refused was read before.
    if (options_.resident() < at_rest + kGrown) continue;
    options_.release();
    at_rest = options_.resident();
  }
}

}  // namespace headlight
