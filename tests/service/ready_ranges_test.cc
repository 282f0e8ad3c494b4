#include "server/service/ready_ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

namespace headlight {
namespace {

// Begin and end of what is taken, {-1, -1} where there is nothing.
std::pair<int, int> Taken(ReadyRanges& ready, std::int64_t least, std::int64_t most) {
  const Range range = ready.Take(least, most).value_or(Range{-1, -1});
  return {static_cast<int>(range.begin), static_cast<int>(range.end)};
}

TEST(ReadyRanges, NeighboursAreOne) {
  ReadyRanges ready;
  EXPECT_EQ(ready.Add({10, 20}), 10);
  EXPECT_EQ(ready.Add({30, 40}), 10);
  EXPECT_FALSE(ready.Take(11, 100).has_value());
  EXPECT_EQ(ready.Add({20, 30}), 30);
  EXPECT_EQ(Taken(ready, 11, 100), std::pair(10, 40));
  EXPECT_TRUE(ready.empty());
}

TEST(ReadyRanges, NoMoreIsTakenThanAskedFor) {
  ReadyRanges ready;
  ready.Add({0, 25});
  EXPECT_EQ(Taken(ready, 10, 10), std::pair(0, 10));
  EXPECT_EQ(Taken(ready, 10, 10), std::pair(10, 20));
  EXPECT_FALSE(ready.Take(10, 10).has_value());
  EXPECT_EQ(ready.Add({25, 30}), 10);
  EXPECT_EQ(Taken(ready, 10, 10), std::pair(20, 30));
}

TEST(ReadyRanges, TheFirstThatIsLargeEnough) {
  ReadyRanges ready;
  ready.Add({0, 3});
  ready.Add({5, 50});
  EXPECT_EQ(Taken(ready, 10, 100), std::pair(5, 50));
  EXPECT_EQ(Taken(ready, 1, 100), std::pair(0, 3));
}

TEST(ReadyRanges, EveryByteOnceWhateverTheOrder) {
  std::mt19937 random(3);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::int64_t> order(200);
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<int> taken(3 * order.size());
    ReadyRanges ready;
    const auto take = [&](std::int64_t least) {
      while (const auto range = ready.Take(least, 1 + static_cast<std::int64_t>(random() % 40) + least)) {
        for (std::int64_t i = range->begin; i < range->end; ++i) ++taken[static_cast<std::size_t>(i)];
      }
    };
    for (const std::int64_t piece : order) {
      ready.Add({3 * piece, 3 * piece + 3});
      if (random() % 4 == 0) take(20);
    }
    take(1);
    EXPECT_TRUE(ready.empty());
    EXPECT_EQ(std::count(taken.begin(), taken.end(), 1), static_cast<std::ptrdiff_t>(taken.size()));
  }
}

}  // namespace
}  // namespace headlight
