#include "server/host/threads.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace headlight {
namespace {

TEST(ThreadsTest, AreHadAndGivenBack) {
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(TryThreads(20).ok());
}

// In a process of its own, of a user who has no other and may not do as root may.
TEST(ThreadsDeathTest, ThatCannotBeHadAreCounted) {
  const auto with_few = [] {
    constexpr rlim_t kProcesses = 4;
    constexpr uid_t kNobody = 65432;
    const rlimit limit{kProcesses, kProcesses};
    if (geteuid() == 0 && setuid(kNobody) != 0) std::_Exit(2);
    if (setrlimit(RLIMIT_NPROC, &limit) != 0) std::_Exit(2);
    const absl::Status status = TryThreads(20);
    std::fprintf(stderr, "%s", status.ToString().c_str());
    std::_Exit(status.code() == absl::StatusCode::kResourceExhausted ? 0 : 1);
  };
  EXPECT_EXIT(with_few(), testing::ExitedWithCode(0), "only [0-3] of 20 threads can be had .*ulimit -u");
}

}  // namespace
}  // namespace headlight
