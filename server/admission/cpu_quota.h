// How many workers this process can keep busy: a thread beyond its processors' share only causes throttling.
#ifndef HEADLIGHT_SERVER_ADMISSION_CPU_QUOTA_H_
#define HEADLIGHT_SERVER_ADMISSION_CPU_QUOTA_H_

#include <optional>
#include <string>

namespace headlight {

// Cores' worth of time that cgroups grant this process: the smallest quota / period of its own cgroup and the
// ancestors that are visible, version 2 (cpu.max) and version 1 (cpu.cfs_quota_us). nullopt: no limit found.
// `root` is the directory that holds proc and sys. Thread-safe.
std::optional<double> CgroupCpuCores(const std::string& root = "/");

// min(processors of the scheduling affinity, CgroupCpuCores rounded up), at least 1. Thread-safe.
int ComputeThreads(const std::string& root = "/");

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ADMISSION_CPU_QUOTA_H_
