#include "server/telemetry/process_collector.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace headlight {
namespace {

using prometheus::MetricType;
using Words = std::vector<std::string>;

// A missing file reads as nothing.
std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Words SplitWords(absl::string_view text) { return absl::StrSplit(text, absl::ByAnyChar(" \t\n"), absl::SkipEmpty()); }

std::optional<double> Number(const Words& words, std::size_t index) {
  double value = 0;
  if (index >= words.size() || !absl::SimpleAtod(words[index], &value)) return std::nullopt;
  return value;
}

std::optional<double> Scaled(std::optional<double> value, double factor) {
  if (value.has_value()) *value *= factor;
  return value;
}

// The number after `key` at the start of a line.
std::optional<double> NumberAfter(const std::string& text, absl::string_view key) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, absl::StrCat(key, " "))) return Number(SplitWords(line.substr(key.size())), 0);
  }
  return std::nullopt;
}

std::optional<double> OpenFiles(const std::string& root) {
  std::error_code error;
  double count = 0;
  std::filesystem::directory_iterator entry(root + "/proc/self/fd", error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) ++count;
  if (error) return std::nullopt;
  return count;
}

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
std::vector<std::string> CgroupDirectories(const std::string& root, const std::string& controller) {
  std::vector<std::string> found;
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
std::optional<double> Least(const std::vector<std::string>& directories, Reader read) {
  std::optional<double> least;
  for (const std::string& directory : directories) {
    const std::optional<double> value = read(directory);
    if (value.has_value()) least = std::min(*value, least.value_or(*value));
  }
  return least;
}

// A usage is the process's own: that of the nearest cgroup which has one.
std::optional<double> Nearest(const std::vector<std::string>& directories, Reader read) {
  for (const std::string& directory : directories) {
    if (const std::optional<double> value = read(directory); value.has_value()) return value;
  }
  return std::nullopt;
}

std::optional<double> FirstNumber(const std::string& path) { return Number(SplitWords(ReadText(path)), 0); }

std::optional<double> MemoryLimit(const std::string& directory) {
  // Version 1 says "no limit" with a number near 2^63.
  constexpr double kUnlimited = 0x1p62;
  const std::optional<double> v2 = FirstNumber(directory + "/memory.max");
  const std::optional<double> limit = v2.has_value() ? v2 : FirstNumber(directory + "/memory.limit_in_bytes");
  return limit.has_value() && *limit < kUnlimited ? limit : std::nullopt;
}

std::optional<double> MemoryUsage(const std::string& directory) {
  const std::optional<double> v2 = FirstNumber(directory + "/memory.current");
  return v2.has_value() ? v2 : FirstNumber(directory + "/memory.usage_in_bytes");
}

std::optional<double> CpuLimit(const std::string& directory) {
  Words words = SplitWords(ReadText(directory + "/cpu.max"));
  if (words.empty()) {
    words = SplitWords(
        absl::StrCat(ReadText(directory + "/cpu.cfs_quota_us"), " ", ReadText(directory + "/cpu.cfs_period_us")));
  }
  const std::optional<double> quota = Number(words, 0);
  const double period = Number(words, 1).value_or(0);
  return period > 0 && quota.value_or(-1) > 0 ? Scaled(quota, 1 / period) : std::nullopt;
}

std::optional<double> CpuThrottled(const std::string& directory) {
  const std::string stat = ReadText(directory + "/cpu.stat");
  const std::optional<double> v2 = Scaled(NumberAfter(stat, "throttled_usec"), 1e-6);
  return v2.has_value() ? v2 : Scaled(NumberAfter(stat, "throttled_time"), 1e-9);
}

// Fields of /proc/self/stat counted as in proc(5), from 1. The second is a name that may hold spaces and parentheses.
class ProcessStat {
 public:
  explicit ProcessStat(const std::string& text)
      : words_(SplitWords(absl::string_view(text).substr(text.rfind(')') + 1))) {}
  std::optional<double> Field(std::size_t number) const { return Number(words_, number - 3); }

 private:
  Words words_;
};

std::optional<double> Sum(std::optional<double> a, std::optional<double> b) {
  if (!a.has_value() || !b.has_value()) return std::nullopt;
  return *a + *b;
}

}  // namespace

ProcessCollector::ProcessCollector(std::string root) : root_(std::move(root)) {}

std::vector<prometheus::MetricFamily> ProcessCollector::Collect() const {
  const ProcessStat stat(ReadText(root_ + "/proc/self/stat"));
  const double second = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  const std::vector<std::string> cpu = CgroupDirectories(root_, "cpu");
  const std::vector<std::string> memory = CgroupDirectories(root_, "memory");

  struct Row {
    const char* name;
    const char* help;
    MetricType type;
    std::optional<double> value;
  };
  const Row rows[] = {
      {"process_resident_memory_bytes", "Resident memory.", MetricType::Gauge, Scaled(stat.Field(24), page)},
      {"process_virtual_memory_bytes", "Virtual memory.", MetricType::Gauge, stat.Field(23)},
      {"process_cpu_seconds_total", "Processor time, user and system.", MetricType::Counter,
       Scaled(Sum(stat.Field(14), stat.Field(15)), second)},
      {"process_open_fds", "Open file descriptors.", MetricType::Gauge, OpenFiles(root_)},
      {"process_max_fds", "Most file descriptors that may be open.", MetricType::Gauge,
       NumberAfter(ReadText(root_ + "/proc/self/limits"), "Max open files")},
      {"process_threads", "Threads.", MetricType::Gauge, stat.Field(20)},
      {"process_start_time_seconds", "Start of the process, since the epoch.", MetricType::Gauge,
       Sum(NumberAfter(ReadText(root_ + "/proc/stat"), "btime"), Scaled(stat.Field(22), second))},
      {"headlight_cgroup_memory_limit_bytes", "Smallest memory limit of the process's cgroups.", MetricType::Gauge,
       Least(memory, MemoryLimit)},
      {"headlight_cgroup_memory_usage_bytes", "Memory of the process's cgroup.", MetricType::Gauge,
       Nearest(memory, MemoryUsage)},
      {"headlight_cgroup_cpu_limit_cores", "Smallest processor quota of the process's cgroups.", MetricType::Gauge,
       Least(cpu, CpuLimit)},
      {"headlight_cgroup_cpu_throttled_seconds_total", "Time for which the process's cgroup was throttled.",
       MetricType::Counter, Nearest(cpu, CpuThrottled)},
  };
  std::vector<prometheus::MetricFamily> families;
  for (const Row& row : rows) {
    if (!row.value.has_value()) continue;
    prometheus::ClientMetric metric;
    (row.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = *row.value;
    families.push_back({row.name, row.help, row.type, {metric}});
  }
  return families;
}

}  // namespace headlight
