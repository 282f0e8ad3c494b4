#include "server/admission/cpu_quota.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace headlight {
namespace {

// A missing file reads as nothing.
std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// This process's path below the mount of a version 1 controller; "" asks for version 2. The mount's root is "".
std::string OwnCgroup(const std::string& root, absl::string_view controller) {
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(ReadText(root + "/proc/self/cgroup"), '\n'))) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(fields[1], ',');
    // A path with ".." lies outside of what this process's cgroup namespace mounts.
    if (absl::c_linear_search(controllers, controller) && !absl::StrContains(fields[2], "..") && fields[2] != "/") {
      return fields[2];
    }
  }
  return "";
}

std::optional<double> Cores(absl::string_view quota, absl::string_view period) {
  std::int64_t quota_us = 0;
  std::int64_t period_us = 0;
  // Without a limit the quota is "max" or -1.
  if (!absl::SimpleAtoi(quota, &quota_us) || !absl::SimpleAtoi(period, &period_us)) return std::nullopt;
  if (quota_us <= 0 || period_us <= 0) return std::nullopt;
  return static_cast<double>(quota_us) / static_cast<double>(period_us);
}

std::optional<double> CoresOf(const std::string& cgroup) {
  const std::vector<std::string> max = absl::StrSplit(ReadText(cgroup + "/cpu.max"), absl::ByAnyChar(" \n"));
  if (max.size() >= 2) return Cores(max[0], max[1]);
  return Cores(ReadText(cgroup + "/cpu.cfs_quota_us"), ReadText(cgroup + "/cpu.cfs_period_us"));
}

int AffinityCount() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  // More processors than the set has room for.
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

std::optional<double> CgroupCpuCores(const std::string& root) {
  struct Mount {
    absl::string_view directory;
    absl::string_view controller;
  };
  std::optional<double> least;
  for (const Mount& mount : {Mount{"", ""}, Mount{"/unified", ""}, Mount{"/cpu", "cpu"}}) {
    const std::string top = absl::StrCat(root, "/sys/fs/cgroup", mount.directory);
    std::string cgroup = top + OwnCgroup(root, mount.controller);
    while (cgroup.size() >= top.size()) {
      const std::optional<double> cores = CoresOf(cgroup);
      if (cores.has_value()) least = std::min(*cores, least.value_or(*cores));
      cgroup.resize(cgroup.rfind('/'));
    }
  }
  return least;
}

int ComputeThreads(const std::string& root) {
  const double affinity = AffinityCount();
  const double cores = std::ceil(CgroupCpuCores(root).value_or(affinity));
  return static_cast<int>(std::max(std::min(cores, affinity), 1.0));
}

}  // namespace headlight
