#include "server/telemetry/process_collector.h"

#include <unistd.h>

#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/string_view.h"
#include "server/host/cgroup.h"
#include "server/host/files.h"

namespace headlight {
namespace {

using prometheus::MetricType;

std::optional<double> Scaled(std::optional<double> value, double factor) {
  if (value.has_value()) *value *= factor;
  return value;
}

std::optional<double> OpenFiles(const std::string& root) {
  std::error_code error;
  double count = 0;
  std::filesystem::directory_iterator entry(root + "/proc/self/fd", error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) ++count;
  if (error) return std::nullopt;
  return count;
}

// Fields of /proc/self/stat counted as in proc(5), from 1. The second is a name that may hold spaces and parentheses.
class ProcessStat {
 public:
  explicit ProcessStat(const std::string& text)
      : words_(SplitWords(absl::string_view(text).substr(text.rfind(')') + 1))) {}
  std::optional<double> Field(std::size_t number) const { return Number(words_, number - 3); }

 private:
  std::vector<std::string> words_;
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
  const CgroupReading cgroup = ReadCgroup(root_);

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
       cgroup.memory_limit_bytes},
      {"headlight_cgroup_memory_usage_bytes", "Memory of the process's cgroup.", MetricType::Gauge,
       cgroup.memory_usage_bytes},
      {"headlight_cgroup_cpu_limit_cores", "Smallest processor quota of the process's cgroups.", MetricType::Gauge,
       cgroup.cpu_limit_cores},
      {"headlight_cgroup_cpu_throttled_seconds_total", "Time for which the process's cgroup was throttled.",
       MetricType::Counter, cgroup.cpu_throttled_seconds},
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
