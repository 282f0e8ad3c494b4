#include "server/admission/cpu_quota.h"

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
class CpuQuota : public testing::Test {
 protected:
  CpuQuota() { EXPECT_NE(mkdtemp(root_.data()), nullptr); }
  ~CpuQuota() override { std::filesystem::remove_all(root_); }

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

TEST_F(CpuQuota, WithoutCgroupsIsTheAffinity) {
  EXPECT_EQ(CgroupCpuCores(root_), std::nullopt);
  EXPECT_EQ(ComputeThreads(root_), Affinity());
}

TEST_F(CpuQuota, ReadsVersion2) {
  Write("proc/self/cgroup", "0::/pod/container\n");
  Write("sys/fs/cgroup/pod/container/cpu.max", "150000 100000\n");
  EXPECT_EQ(CgroupCpuCores(root_), 1.5);
  EXPECT_EQ(ComputeThreads(root_), std::min(Affinity(), 2));
}

TEST_F(CpuQuota, MaxIsNoLimit) {
  Write("proc/self/cgroup", "0::/\n");
  Write("sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(CgroupCpuCores(root_), std::nullopt);
}

TEST_F(CpuQuota, AnAncestorBinds) {
  Write("proc/self/cgroup", "0::/pod/container\n");
  Write("sys/fs/cgroup/pod/container/cpu.max", "max 100000\n");
  Write("sys/fs/cgroup/pod/cpu.max", "50000 200000\n");
  Write("sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(CgroupCpuCores(root_), 0.25);
  EXPECT_EQ(ComputeThreads(root_), 1);
}

TEST_F(CpuQuota, ASiblingDoesNotBind) {
  Write("proc/self/cgroup", "0::/pod/container\n");
  Write("sys/fs/cgroup/pod/container/cpu.max", "200000 100000\n");
  Write("sys/fs/cgroup/pod/other/cpu.max", "10000 100000\n");
  Write("sys/fs/cgroup/pods/cpu.max", "10000 100000\n");
  EXPECT_EQ(CgroupCpuCores(root_), 2);
}

TEST_F(CpuQuota, APathThatIsNotMountedFallsBackToTheMount) {
  Write("proc/self/cgroup", "0::/docker/0123\n");
  Write("sys/fs/cgroup/cpu.max", "300000 100000\n");
  EXPECT_EQ(CgroupCpuCores(root_), 3);
}

TEST_F(CpuQuota, NeverLeavesTheMount) {
  Write("proc/self/cgroup", "0::/../../elsewhere\n");
  Write("sys/elsewhere/cpu.max", "10000 100000\n");
  Write("sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_EQ(CgroupCpuCores(root_), 1);
}

TEST_F(CpuQuota, ReadsVersion1) {
  Write("proc/self/cgroup", "12:memory:/m\n4:cpu,cpuacct:/docker/0123\n1:name=systemd:/s\n");
  Write("sys/fs/cgroup/cpu/docker/0123/cpu.cfs_quota_us", "250000\n");
  Write("sys/fs/cgroup/cpu/docker/0123/cpu.cfs_period_us", "100000\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CgroupCpuCores(root_), 2.5);
  EXPECT_EQ(ComputeThreads(root_), std::min(Affinity(), 3));
}

TEST_F(CpuQuota, Version1BehindAnEmptyVersion2) {
  Write("proc/self/cgroup", "1:cpu:/\n0::/\n");
  Write("sys/fs/cgroup/unified/cgroup.procs", "");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CgroupCpuCores(root_), 1);
}

TEST_F(CpuQuota, IgnoresWhatItCannotRead) {
  Write("proc/self/cgroup", "nonsense\n\n0::\n::::\n");
  for (const char* text : {"", "\n", "max", "100000", "x y\n", "0 100000\n", "100000 0\n", "-1 100000\n", "nan 1\n"}) {
    Write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(CgroupCpuCores(root_), std::nullopt) << text;
  }
}

TEST_F(CpuQuota, AMissingPeriodIsNoLimit) {
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  EXPECT_EQ(CgroupCpuCores(root_), std::nullopt);
}

TEST(ComputeThreads, OfThisMachineIsBetweenOneAndTheAffinity) {
  EXPECT_GE(ComputeThreads(), 1);
  EXPECT_LE(ComputeThreads(), Affinity());
}

}  // namespace
}  // namespace headlight
