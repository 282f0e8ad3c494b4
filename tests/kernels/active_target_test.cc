// That the kernels really run on the target under which this executable is run.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/kernels/fingerprint.h"

namespace headlight {
namespace {

TEST(ActiveCpuTarget, IsTheOneThatWasForced) {
  const char* forced = std::getenv("HEADLIGHT_TEST_CPU_TARGET");
  if (forced == nullptr) GTEST_SKIP() << "none was forced";
  EXPECT_EQ(NameOf(ActiveCpuTarget()), forced);
}

TEST(ActiveCpuTarget, ShowsInTheResultsOfTheKernels) {
  EXPECT_TRUE(FitsLanes(ActiveCpuTarget(), MeasuredLanes())) << NameOf(ActiveCpuTarget()) << " " << MeasuredLanes();
  EXPECT_EQ(RowsFuse(), Fuses(ActiveCpuTarget())) << NameOf(ActiveCpuTarget());
  EXPECT_EQ(MatmulFuses(), Fuses(ActiveCpuTarget())) << NameOf(ActiveCpuTarget());
}

}  // namespace
}  // namespace headlight
