#include "server/host/cgroup.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace headlight {
namespace {

// A directory that stands for the root of the file system.
class Cgroup : public testing::Test {
 protected:
  Cgroup() { EXPECT_NE(mkdtemp(root_.data()), nullptr); }
  ~Cgroup() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  std::string root_ = testing::TempDir() + "/headlight.XXXXXX";
};

int Affinity() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

TEST_F(Cgroup, WithoutCgroupsIsTheAffinity) {
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, std::nullopt);
  EXPECT_EQ(ComputeThreads(root_), Affinity());
}

TEST_F(Cgroup, ReadsVersion2) {
  Write("proc/self/cgroup", "0::/pod/container\n");
  Write("sys/fs/cgroup/pod/container/cpu.max", "150000 100000\n");
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, 1.5);
  EXPECT_EQ(ComputeThreads(root_), std::min(Affinity(), 2));
}

TEST_F(Cgroup, MaxIsNoLimit) {
  Write("proc/self/cgroup", "0::/\n");
  Write("sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, std::nullopt);
}

TEST_F(Cgroup, AnAncestorBinds) {
  Write("proc/self/cgroup", "0::/pod/container\n");
  Write("sys/fs/cgroup/pod/container/cpu.max", "max 100000\n");
  Write("sys/fs/cgroup/pod/cpu.max", "50000 200000\n");
  Write("sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, 0.25);
  EXPECT_EQ(ComputeThreads(root_), 1);
}

TEST_F(Cgroup, ASiblingDoesNotBind) {
  Write("proc/self/cgroup", "0::/pod/container\n");
  Write("sys/fs/cgroup/pod/container/cpu.max", "200000 100000\n");
  Write("sys/fs/cgroup/pod/other/cpu.max", "10000 100000\n");
  Write("sys/fs/cgroup/pods/cpu.max", "10000 100000\n");
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, 2);
}

TEST_F(Cgroup, APathThatIsNotMountedFallsBackToTheMount) {
  Write("proc/self/cgroup", "0::/docker/0123\n");
  Write("sys/fs/cgroup/cpu.max", "300000 100000\n");
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, 3);
}

TEST_F(Cgroup, NeverLeavesTheMount) {
  Write("proc/self/cgroup", "0::/../../elsewhere\n");
  Write("sys/elsewhere/cpu.max", "10000 100000\n");
  Write("sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, 1);
}

TEST_F(Cgroup, ReadsVersion1) {
  Write("proc/self/cgroup", "12:memory:/m\n4:cpu,cpuacct:/docker/0123\n1:name=systemd:/s\n");
  Write("sys/fs/cgroup/cpu/docker/0123/cpu.cfs_quota_us", "250000\n");
  Write("sys/fs/cgroup/cpu/docker/0123/cpu.cfs_period_us", "100000\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, 2.5);
  EXPECT_EQ(ComputeThreads(root_), std::min(Affinity(), 3));
}

TEST_F(Cgroup, Version1BehindAnEmptyVersion2) {
  Write("proc/self/cgroup", "1:cpu:/\n0::/\n");
  Write("sys/fs/cgroup/unified/cgroup.procs", "");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, 1);
}

TEST_F(Cgroup, IgnoresWhatItCannotRead) {
  Write("proc/self/cgroup", "nonsense\n\n0::\n::::\n");
  for (const char* text : {"", "\n", "max", "100000", "x y\n", "0 100000\n", "100000 0\n", "-1 100000\n", "nan 1\n"}) {
    Write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, std::nullopt) << text;
  }
}

TEST_F(Cgroup, AMissingPeriodIsNoLimit) {
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  EXPECT_EQ(ReadCgroup(root_).cpu_limit_cores, std::nullopt);
}

TEST_F(Cgroup, MemoryIsTheMachinesWithoutALimit) {
  EXPECT_EQ(ReadMemory(root_).limit_bytes, 0);
  Write("proc/meminfo", "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n");
  const MemoryReading memory = ReadMemory(root_);
  EXPECT_FALSE(memory.of_cgroup);
  EXPECT_EQ(memory.limit_bytes, 1000 * 1024);
  EXPECT_EQ(memory.used_bytes, 600 * 1024);
}

TEST_F(Cgroup, MemoryIsTheCgroupsWhereThatLimitsIt) {
  Write("proc/meminfo", "MemTotal:        1000 kB\nMemAvailable:     400 kB\n");
  Write("proc/self/cgroup", "0::/pod\n");
  Write("sys/fs/cgroup/pod/memory.max", "512000\n");
  Write("sys/fs/cgroup/pod/memory.current", "300000\n");
  Write("sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 100000\n");
  MemoryReading memory = ReadMemory(root_);
  EXPECT_TRUE(memory.of_cgroup);
  EXPECT_EQ(memory.limit_bytes, 512000);
  EXPECT_EQ(memory.used_bytes, 200000);
  Write("sys/fs/cgroup/pod/memory.max", "max\n");
  memory = ReadMemory(root_);
  EXPECT_FALSE(memory.of_cgroup);
  EXPECT_EQ(memory.limit_bytes, 1000 * 1024);
}

TEST_F(Cgroup, MemoryOfVersion1) {
  Write("proc/self/cgroup", "3:memory:/m\n");
  Write("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "4096\n");
  Write("sys/fs/cgroup/memory/m/memory.usage_in_bytes", "2048\n");
  Write("sys/fs/cgroup/memory/m/memory.stat", "inactive_file 1\ntotal_inactive_file 1024\n");
  const MemoryReading memory = ReadMemory(root_);
  EXPECT_TRUE(memory.of_cgroup);
  EXPECT_EQ(memory.limit_bytes, 4096);
  EXPECT_EQ(memory.used_bytes, 1024);
}

TEST(ComputeThreads, OfThisMachineIsBetweenOneAndTheAffinity) {
  EXPECT_GE(ComputeThreads(), 1);
  EXPECT_LE(ComputeThreads(), Affinity());
}

TEST(ResidentBytes, AreThisProcess) {
  EXPECT_GT(ResidentBytes(), 1 << 20);
  EXPECT_EQ(ResidentBytes("/nonexistent"), 0);
}

}  // namespace
}  // namespace headlight
