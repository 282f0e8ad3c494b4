#include "server/base/limits.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>

#include "server/base/stage.h"

namespace headlight {
namespace {

TEST(Limits, TableHoldsEachLimitOnceInTheOrderOfTheFields) {
  Limits limits;
  auto* fields = reinterpret_cast<std::int64_t*>(&limits);
  constexpr std::size_t kCount = sizeof(Limits) / sizeof(std::int64_t);
  for (std::size_t i = 0; i < kCount; ++i) fields[i] = static_cast<std::int64_t>(1000 + i);
  const auto table = limits.Table();
  ASSERT_EQ(table.size(), kCount);
  std::set<std::string> names;
  for (std::size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(table[i].second, static_cast<std::int64_t>(1000 + i)) << table[i].first;
    EXPECT_TRUE(names.insert(std::string(table[i].first)).second) << table[i].first;
  }
  EXPECT_EQ(limits.Table()[4].first, "max_tokens");
  EXPECT_EQ(limits.Table()[4].second, limits.max_tokens);
}

TEST(Limits, AreAllAboveZeroUnlessTold) {
  // How much memory there is, the machine says.
  for (const auto& [name, value] : Limits().Table()) EXPECT_EQ(value > 0, name != "max_memory_bytes") << name;
}

// What planning multiplies stays within 63 bits: FLOPs and the naive grid of the largest problem that passes the check.
TEST(Limits, LeaveNoRoomForOverflow) {
  const Limits l;
  const double pairs = static_cast<double>(l.max_batch * l.max_heads) * static_cast<double>(l.max_tokens) *
                       static_cast<double>(l.max_tokens);
  const double rows = static_cast<double>(l.max_batch * l.max_tokens);
  const double projected = static_cast<double>(l.max_heads * l.max_head_size);
  EXPECT_LT(pairs * 4 * static_cast<double>(l.max_head_size) + 8 * rows * static_cast<double>(l.max_width) * projected,
            9e18);
  EXPECT_LT(pairs * 4 * static_cast<double>(l.max_map_requests * l.max_row_ranges), 9e18);
}

TEST(Stage, HasANameOfItsOwn) {
  const absl::string_view expected[] = {"decode", "queue", "project", "attend", "maps", "encode"};
  ASSERT_EQ(std::size(expected), static_cast<std::size_t>(kStages));
  for (int i = 0; i < kStages; ++i) EXPECT_EQ(NameOf(static_cast<Stage>(i)), expected[i]);
}

TEST(StageTimes, KeepOneNumberPerStage) {
  StageTimes times;
  for (int i = 0; i < kStages; ++i) EXPECT_EQ(times[static_cast<Stage>(i)], 0);
  for (int i = 0; i < kStages; ++i) times[static_cast<Stage>(i)] += i + 0.5;
  const StageTimes& constant = times;
  for (int i = 0; i < kStages; ++i) EXPECT_EQ(constant[static_cast<Stage>(i)], i + 0.5);
}

}  // namespace
}  // namespace headlight
