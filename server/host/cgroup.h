// Limits and usage of this process's cgroups, version 2 or 1, and what follows for threads and memory.
#ifndef HEADLIGHT_SERVER_HOST_CGROUP_H_
#define HEADLIGHT_SERVER_HOST_CGROUP_H_

#include <cstdint>
#include <optional>
#include <string>

namespace headlight {

// What is not limited, or not told, is empty. Limits are the smallest of the process's own cgroup and all above it that
// can be seen; usage is that of the nearest which tells it. `root` as in files.h. Thread-safe.
struct CgroupReading {
  std::optional<double> cpu_limit_cores;  // quota / period: 0.5 is half a processor
  std::optional<double> cpu_throttled_seconds;
  std::optional<double> memory_limit_bytes;
  std::optional<double> memory_usage_bytes;     // with the page cache
  std::optional<double> memory_inactive_bytes;  // of that, pages of files which the kernel takes back first
};
CgroupReading ReadCgroup(const std::string& root = "");

// How many threads should compute: the processors of the process's affinity or its quota rounded up, whichever is
// fewer, at least 1.
int ComputeThreads(const std::string& root = "");

// How much memory there is, and how much of it is taken: of the cgroup where that limits it, else of the machine.
struct MemoryReading {
  bool of_cgroup = false;
  std::int64_t limit_bytes = 0;  // 0: nothing is known
  std::int64_t used_bytes = 0;   // without what the kernel would take back first
};
MemoryReading ReadMemory(const std::string& root = "");

// Resident memory of this process in bytes; 0 where it is not told.
std::int64_t ResidentBytes(const std::string& root = "");

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_HOST_CGROUP_H_
