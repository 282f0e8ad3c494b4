// Forces the CPU target that HEADLIGHT_TEST_CPU_TARGET names, then runs the tests. Exits with 77, "skipped", where the
// machine has it not.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "server/kernels/cpu_target.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* target = std::getenv("HEADLIGHT_TEST_CPU_TARGET");
  if (target != nullptr) {
    if (const absl::Status forced = headlight::ForceCpuTarget(target); !forced.ok()) {
      std::printf("skipped: %s\n", std::string(forced.message()).c_str());
      return 77;
    }
  }
  return RUN_ALL_TESTS();
}
