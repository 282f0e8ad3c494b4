#include "server/host/processors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace headlight {
namespace {

TEST(Processors, AThreadKeepsToOneAndOthersDoNot) {
  const std::vector<int> before = AllowedProcessors();
  ASSERT_FALSE(before.empty());
  std::thread([&] {
    KeepTo(before.back());
    EXPECT_THAT(AllowedProcessors(), testing::ElementsAre(before.back()));
  }).join();
  EXPECT_EQ(AllowedProcessors(), before);
}

}  // namespace
}  // namespace headlight
