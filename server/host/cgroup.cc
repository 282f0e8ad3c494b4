#include "server/host/cgroup.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "server/host/files.h"
#include "server/host/processors.h"

namespace headlight {
namespace {

using Words = std::vector<std::string>;

// This process's path below the mount of a version 1 controller; "" asks for version 2. The mount's root is "".
std::string OwnCgroup(const std::string& root, absl::string_view controller) {
  for (const std::string& line : Words(absl::StrSplit(ReadText(root + "/proc/self/cgroup"), '\n'))) {
    const Words fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const Words controllers = absl::StrSplit(fields[1], ',');
    // A path with ".." lies outside of what this process's cgroup namespace mounts.
    if (absl::c_linear_search(controllers, controller) && !absl::StrContains(fields[2], "..") && fields[2] != "/") {
      return fields[2];
    }
  }
  return "";
}

// The process's own cgroup and its ancestors up to the mount: version 2, then version 1 of the controller. Not all
// of them exist.
Words CgroupDirectories(const std::string& root, const std::string& controller) {
  Words found;
  for (const auto& [mount, of] :
       {std::pair<std::string, std::string>("", ""), {"/unified", ""}, {"/" + controller, controller}}) {
    const std::string top = absl::StrCat(root, "/sys/fs/cgroup", mount);
    for (std::string cgroup = top + OwnCgroup(root, of); cgroup.size() >= top.size();
         cgroup.resize(cgroup.rfind('/'))) {
      found.push_back(cgroup);
    }
  }
  return found;
}

using Reader = std::optional<double> (*)(const std::string& directory);

// A limit binds wherever it is set above the process.
std::optional<double> Least(const Words& directories, Reader read) {
  std::optional<double> least;
  for (const std::string& directory : directories) {
    const std::optional<double> value = read(directory);
    if (value.has_value()) least = std::min(*value, least.value_or(*value));
  }
  return least;
}

// A usage is the process's own: that of the nearest cgroup which has one.
std::optional<double> Nearest(const Words& directories, Reader read) {
  for (const std::string& directory : directories) {
    if (const std::optional<double> value = read(directory); value.has_value()) return value;
  }
  return std::nullopt;
}

std::optional<double> FirstNumber(const std::string& path) { return Number(SplitWords(ReadText(path)), 0); }

std::optional<double> Either(std::optional<double> a, std::optional<double> b) { return a.has_value() ? a : b; }

std::optional<double> MemoryLimit(const std::string& directory) {
  // Version 1 says "no limit" with a number near 2^63.
  constexpr double kUnlimited = 0x1p62;
  const std::optional<double> limit =
      Either(FirstNumber(directory + "/memory.max"), FirstNumber(directory + "/memory.limit_in_bytes"));
  return limit.has_value() && *limit < kUnlimited ? limit : std::nullopt;
}

std::optional<double> MemoryUsage(const std::string& directory) {
  return Either(FirstNumber(directory + "/memory.current"), FirstNumber(directory + "/memory.usage_in_bytes"));
}

std::optional<double> MemoryInactive(const std::string& directory) {
  const std::string stat = ReadText(directory + "/memory.stat");
  return Either(NumberAfter(stat, "total_inactive_file"), NumberAfter(stat, "inactive_file"));
}

// Without a limit the quota is "max" or -1.
std::optional<double> CpuLimit(const std::string& directory) {
  Words words = SplitWords(ReadText(directory + "/cpu.max"));
  if (words.empty()) {
    words = SplitWords(
        absl::StrCat(ReadText(directory + "/cpu.cfs_quota_us"), " ", ReadText(directory + "/cpu.cfs_period_us")));
  }
  const double quota = Number(words, 0).value_or(0);
  const double period = Number(words, 1).value_or(0);
  if (!(quota > 0) || !(period > 0)) return std::nullopt;
  return quota / period;
}

std::optional<double> CpuThrottled(const std::string& directory) {
  const std::string stat = ReadText(directory + "/cpu.stat");
  if (const auto v2 = NumberAfter(stat, "throttled_usec"); v2.has_value()) return *v2 * 1e-6;
  if (const auto v1 = NumberAfter(stat, "throttled_time"); v1.has_value()) return *v1 * 1e-9;
  return std::nullopt;
}

int AffinityCount() {
  const std::size_t allowed = AllowedProcessors().size();
  // None is told where there are more than the system's set has room for.
  return static_cast<int>(allowed > 0 ? allowed : std::thread::hardware_concurrency());
}

}  // namespace

CgroupReading ReadCgroup(const std::string& root) {
  const Words cpu = CgroupDirectories(root, "cpu");
  const Words memory = CgroupDirectories(root, "memory");
  return {Least(cpu, CpuLimit), Nearest(cpu, CpuThrottled), Least(memory, MemoryLimit), Nearest(memory, MemoryUsage),
          Nearest(memory, MemoryInactive)};
}

int ComputeThreads(const std::string& root) {
  const double affinity = AffinityCount();
  const double cores = std::ceil(ReadCgroup(root).cpu_limit_cores.value_or(affinity));
  return static_cast<int>(std::max(std::min(cores, affinity), 1.0));
}

MemoryReading ReadMemory(const std::string& root) {
  const CgroupReading cgroup = ReadCgroup(root);
  const std::string machine = ReadText(root + "/proc/meminfo");
  const double total = 1024 * NumberAfter(machine, "MemTotal:").value_or(0);
  const double available = 1024 * NumberAfter(machine, "MemAvailable:").value_or(0);
  const bool limited = cgroup.memory_limit_bytes.has_value() && cgroup.memory_usage_bytes.has_value() &&
                       (total == 0 || *cgroup.memory_limit_bytes < total);
  if (!limited)
    return {false, static_cast<std::int64_t>(total), static_cast<std::int64_t>(std::max(total - available, 0.0))};
  const double used = *cgroup.memory_usage_bytes - cgroup.memory_inactive_bytes.value_or(0);
  return {true, static_cast<std::int64_t>(*cgroup.memory_limit_bytes), static_cast<std::int64_t>(std::max(used, 0.0))};
}

std::int64_t ResidentBytes(const std::string& root) {
  const std::vector<std::string> words = SplitWords(ReadText(root + "/proc/self/statm"));
  return static_cast<std::int64_t>(Number(words, 1).value_or(0)) * sysconf(_SC_PAGESIZE);
}

}  // namespace headlight
