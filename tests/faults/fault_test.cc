#include "server/faults/fault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace headlight {
namespace {

const std::string& Path() {
  static const std::string path = testing::TempDir() + "faults." + std::to_string(getpid());
  return path;
}

// The process has one file; each test writes it anew, as a file of its own.
void Write(const std::string& text) {
  setenv("HEADLIGHT_FAULT_FILE", Path().c_str(), /*overwrite=*/1);
  const std::string next = Path() + ".next";
  std::ofstream(next) << text;
  ASSERT_EQ(std::rename(next.c_str(), Path().c_str()), 0);
}

std::vector<bool> Fails(int times) {
  std::vector<bool> fails;
  for (int i = 0; i < times; ++i) {
    bool failed = false;
    try {
      HEADLIGHT_FAULT("unit");
    } catch (const std::runtime_error&) {
      failed = true;
    }
    fails.push_back(failed);
  }
  return fails;
}

TEST(Fault, DoesWhatTheFileSays) {
  Write("unit=error encode=bad_alloc\nphase=30ms");
  EXPECT_THROW(HEADLIGHT_FAULT("unit"), std::runtime_error);
  EXPECT_THROW(HEADLIGHT_FAULT("encode"), std::bad_alloc);
  const absl::Time began = absl::Now();
  HEADLIGHT_FAULT("phase");
  EXPECT_GE(absl::Now() - began, absl::Milliseconds(30));
  HEADLIGHT_FAULT("accept");
  Write("");
  HEADLIGHT_FAULT("unit");
}

TEST(Fault, HasTheSameFateWithTheSameSeed) {
  Write("seed=3 unit=error@0.3");
  const std::vector<bool> first = Fails(200);
  const auto failed = std::count(first.begin(), first.end(), true);
  EXPECT_GT(failed, 30);
  EXPECT_LT(failed, 90);
  Write("seed=3 unit=error@0.3");
  EXPECT_EQ(Fails(200), first);
  Write("seed=4 unit=error@0.3");
  EXPECT_NE(Fails(200), first);
}

TEST(Fault, WaitsForEverUntilTheFileChanges) {
  Write("unit=inf");
  std::thread waits([] { HEADLIGHT_FAULT("unit"); });
  absl::SleepFor(absl::Milliseconds(50));
  Write("");
  waits.join();
}

TEST(FaultDeathTest, AFileThatCannotBeUnderstoodEndsTheProcess) {
  for (const std::string wrong : {"nowhere=error", "unit=soon", "unit=error@often", "seed=x", "unit"}) {
    EXPECT_EXIT(
        {
          Write(wrong);
          HEADLIGHT_FAULT("unit");
        },
        testing::ExitedWithCode(70), testing::HasSubstr(wrong));
  }
}

}  // namespace
}  // namespace headlight
