#include "server/telemetry/process_collector.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "prometheus/text_serializer.h"
#include "tests/telemetry/exposition.h"

namespace headlight {
namespace {

// A directory that stands for the root of the file system.
class ProcessCollectorTest : public testing::Test {
 protected:
  ProcessCollectorTest() { EXPECT_NE(mkdtemp(root_.data()), nullptr); }
  ~ProcessCollectorTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  Exposition Scrape() const {
    return ParseExposition(prometheus::TextSerializer().Serialize(ProcessCollector(root_).Collect()));
  }

  std::string root_ = testing::TempDir() + "/headlight.XXXXXX";
};

using Series = std::map<std::string, double>;

TEST_F(ProcessCollectorTest, LeavesOutWhatIsMissing) { EXPECT_EQ(Scrape().series, Series()); }

TEST_F(ProcessCollectorTest, ReadsTheProcess) {
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  // The name is chosen to mislead.
  Write("proc/self/stat",
        "42 (a) R (b c) S 1 42 42 0 -1 4194560 9 8 7 6 300 200 5 4 20 0 17 0 1000 8192000 250 18446744073709551615 1 "
        "1\n");
  Write("proc/stat", "cpu  1 2 3\nbtime 1700000000\nprocesses 5\n");
  Write("proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max processes             11                   12                   processes \n"
        "Max open files            1024                 4096                 files     \n");
  Write("proc/self/fd/0", "");
  Write("proc/self/fd/1", "");
  Write("proc/self/fd/7", "");
  EXPECT_EQ(Scrape().series,
            (Series{{"process_resident_memory_bytes", 250.0 * static_cast<double>(sysconf(_SC_PAGESIZE))},
                    {"process_virtual_memory_bytes", 8192000},
                    {"process_cpu_seconds_total", 500 / ticks},
                    {"process_open_fds", 3},
                    {"process_max_fds", 1024},
                    {"process_threads", 17},
                    {"process_start_time_seconds", 1700000000 + 1000 / ticks}}));
}

TEST_F(ProcessCollectorTest, SurvivesCutFiles) {
  Write("proc/self/stat", "42 (a");
  Write("proc/stat", "btime");
  Write("proc/self/limits", "Max open files            unlimited            unlimited            files\n");
  Write("proc/self/cgroup", "0:");
  Write("sys/fs/cgroup/memory.max", "");
  Write("sys/fs/cgroup/cpu.max", "1");
  Write("sys/fs/cgroup/cpu.stat", "throttled_usec");
  EXPECT_EQ(Scrape().series, Series());
}

TEST_F(ProcessCollectorTest, ReadsCgroupsOfVersion2) {
  Write("proc/self/cgroup", "0::/pod/container\n");
  Write("sys/fs/cgroup/pod/container/memory.max", "3221225472\n");
  Write("sys/fs/cgroup/pod/memory.max", "1073741824\n");
  Write("sys/fs/cgroup/memory.max", "max\n");
  Write("sys/fs/cgroup/pod/container/memory.current", "4096\n");
  Write("sys/fs/cgroup/pod/memory.current", "8192\n");
  Write("sys/fs/cgroup/pod/container/cpu.max", "150000 100000\n");
  Write("sys/fs/cgroup/pod/cpu.max", "max 100000\n");
  Write("sys/fs/cgroup/pod/container/cpu.stat", "usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n");
  EXPECT_EQ(Scrape().series, (Series{{"headlight_cgroup_memory_limit_bytes", 1073741824},
                                     {"headlight_cgroup_memory_usage_bytes", 4096},
                                     {"headlight_cgroup_cpu_limit_cores", 1.5},
                                     {"headlight_cgroup_cpu_throttled_seconds_total", 2.5}}));
}

TEST_F(ProcessCollectorTest, ReadsCgroupsOfVersion1) {
  // The directories of a container's mounts do not have the path that the host gives it.
  Write("proc/self/cgroup", "9:memory:/docker/0123\n4:cpu,cpuacct:/docker/0123\n0::/\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n");
  Write("sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  Write("sys/fs/cgroup/cpu/cpu.stat", "nr_periods 10\nnr_throttled 2\nthrottled_time 1500000000\n");
  EXPECT_EQ(Scrape().series, (Series{{"headlight_cgroup_memory_limit_bytes", 1048576},
                                     {"headlight_cgroup_memory_usage_bytes", 4096},
                                     {"headlight_cgroup_cpu_limit_cores", 0.5},
                                     {"headlight_cgroup_cpu_throttled_seconds_total", 1.5}}));
}

TEST_F(ProcessCollectorTest, WithoutALimitShowsNone) {
  Write("proc/self/cgroup", "9:memory:/\n4:cpu:/\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Scrape().series, Series());
}

TEST(ProcessCollector, AgreesWithTheSystem) {
  const Exposition text = ParseExposition(prometheus::TextSerializer().Serialize(ProcessCollector().Collect()));
  EXPECT_GT(text.At("process_resident_memory_bytes"), 1e5);
  EXPECT_GT(text.At("process_virtual_memory_bytes"), text.At("process_resident_memory_bytes"));
  EXPECT_GE(text.At("process_cpu_seconds_total"), 0);
  EXPECT_GE(text.At("process_open_fds"), 3);
  EXPECT_GE(text.At("process_threads"), 1);
  rlimit files;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  if (files.rlim_cur != RLIM_INFINITY) {
    EXPECT_EQ(text.At("process_max_fds"), static_cast<double>(files.rlim_cur));
  }
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(text.At("process_start_time_seconds").value(), now, 600);
}

}  // namespace
}  // namespace headlight
