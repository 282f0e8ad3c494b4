#include "server/host/descriptors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>

namespace headlight {
namespace {

void SetLimit(rlim_t soft, rlim_t hard) {
  const rlimit limit{soft, hard};
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) std::_Exit(2);
}

// In a process of its own, which may not raise its limit again.
TEST(DescriptorDeathTest, AreRaisedToWhatTheSystemAllows) {
  const auto raise = [] {
    SetLimit(40, 60);
    std::_Exit(RaiseDescriptorLimit() == 60 && RaiseDescriptorLimit() == 60 ? 0 : 1);
  };
  EXPECT_EXIT(raise(), testing::ExitedWithCode(0), "");
}

TEST(DescriptorDeathTest, ThatRanOutAreSeenOnce) {
  const auto run_out = [] {
    SetLimit(40, 40);
    DescriptorWatch watch;
    if (watch.Look() || watch.ran_out()) std::_Exit(1);
    while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) {
    }
    if (!watch.Look() || watch.Look()) std::_Exit(1);
    close(39);
    std::_Exit(!watch.Look() && watch.ran_out() ? 0 : 1);
  };
  EXPECT_EXIT(run_out(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace headlight
