// Memory over time: how near the cgroup is to its limit, and giving back what an idle process keeps.
#ifndef HEADLIGHT_SERVER_ADMISSION_MEMORY_WATCH_H_
#define HEADLIGHT_SERVER_ADMISSION_MEMORY_WATCH_H_

#include <cstdint>
#include <functional>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "server/admission/admission.h"
#include "server/host/cgroup.h"

namespace headlight {

// From 85 % of the cgroup's limit on batch calls are shed, from 92 % on all new ones. Without a limit there is no
// pressure.
MemoryPressure PressureOf(const MemoryReading& reading);

// What all calls together may take: 70 % of what is left of the limit beside what the process holds at its start and
// what gRPC may buffer. 0 where no limit is known.
std::int64_t MemoryBudget(const MemoryReading& at_start, std::int64_t grpc_bytes);

// A thread that looks every `interval` until it is destroyed.
class MemoryWatch {
 public:
  struct Options {
    std::function<MemoryReading()> read;
    std::function<std::int64_t()> resident;  // bytes of the process
    // Gives memory back to the system: where the process has grown, when there were no calls for `idle`, and while
    // there is pressure.
    std::function<void()> release;
    absl::Duration interval = absl::Milliseconds(250);
    absl::Duration idle = absl::Seconds(5);
  };

  // `admission` outlives it and is told of the pressure.
  MemoryWatch(Options options, Admission& admission);
  ~MemoryWatch();
  MemoryWatch(const MemoryWatch&) = delete;
  MemoryWatch& operator=(const MemoryWatch&) = delete;

 private:
  void Watch();

  const Options options_;
  Admission& admission_;
  absl::Notification stopping_;
  std::thread thread_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ADMISSION_MEMORY_WATCH_H_
