// Turned rows against the double reference, and the property that rotary positions are made for.
#include "server/positions/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "server/kernels/reference/attention.h"

namespace headlight {
namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
constexpr ChannelLayout kLayouts[] = {ChannelLayout::kHalves, ChannelLayout::kInterleaved};

PositionSpec Spec(ChannelLayout layout, std::int64_t size, double base = 10000) {
  PositionSpec spec;
  spec.kind = PositionKind::kRotary;
  spec.layout = layout;
  spec.rotary_size = size;
  spec.base = base;
  return spec;
}

std::vector<float> Draw(std::uint32_t seed, std::int64_t n) {
  std::mt19937 random(seed);
  std::vector<float> numbers(static_cast<std::size_t>(n));
  for (float& x : numbers) x = static_cast<float>(random() % 20001) / 5000 - 2;
  return numbers;
}

// Positions first .. first + count - 1, filled.
RotaryTable Table(MemoryAccount& account, const PositionSpec& spec, std::int64_t first, std::int64_t count) {
  RotaryTable table(account, spec, first, count);
  table.Fill(0, count);
  return table;
}

// Cosine, sine, two products and a sum are rounded: two units of the pair's magnitude are room enough.
void ExpectTurned(const PositionSpec& spec, std::int64_t first, std::int64_t row, std::int64_t width) {
  SCOPED_TRACE(testing::Message() << "size " << spec.rotary_size << " of " << width << " position " << first << " + "
                                  << row << " layout " << static_cast<int>(spec.layout) << " base " << spec.base);
  MemoryAccount account(nullptr);
  const RotaryTable table = Table(account, spec, first, row + 1);
  const std::vector<float> before = Draw(static_cast<std::uint32_t>(width), width);
  std::vector<float> turned = before;
  table.Turn(row, turned.data());
  std::vector<double> exact(before.begin(), before.end());
  reference::Turn(exact.data(), spec.rotary_size, spec.layout == ChannelLayout::kHalves, spec.base, first + row);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    if (static_cast<std::int64_t>(i) >= spec.rotary_size) {
      ASSERT_EQ(turned[i], before[i]) << i;
    } else {
      ASSERT_NEAR(turned[i], exact[i], 2 * kEpsilon * 4) << i;
    }
  }
}

TEST(RotaryTable, AgreesWithTheReference) {
  for (const ChannelLayout layout : kLayouts) {
    for (const std::int64_t size : {2, 4, 6, 32, 64, 128, 512}) {
      for (const std::int64_t first : {0, 1, -5, 4000, 1 << 20}) {
        for (const std::int64_t row : {0, 1, 63}) ExpectTurned(Spec(layout, size), first, row, size);
      }
    }
  }
}

TEST(RotaryTable, LeavesChannelsBeyondItsSizeAlone) {
  for (const ChannelLayout layout : kLayouts) {
    for (const std::int64_t size : {2, 8, 16, 62}) ExpectTurned(Spec(layout, size), 17, 3, 64);
  }
}

TEST(RotaryTable, TakesEveryBase) {
  for (const double base : {0.5, 1.0, 500000.0, 1e12}) {
    for (const ChannelLayout layout : kLayouts) ExpectTurned(Spec(layout, 64, base), 100, 9, 64);
  }
}

// Angles are made in double: a float would have lost them at positions that the contract allows.
TEST(RotaryTable, KeepsItsAnglesAtTheFarthestPositions) {
  for (const std::int64_t first : {(std::int64_t{1} << 31) - 1, -(std::int64_t{1} << 31) + 1}) {
    for (const ChannelLayout layout : kLayouts) ExpectTurned(Spec(layout, 64), first, 5, 64);
  }
}

TEST(RotaryTable, LeavesPositionZeroAsItIs) {
  MemoryAccount account(nullptr);
  for (const ChannelLayout layout : kLayouts) {
    const RotaryTable table = Table(account, Spec(layout, 64), -3, 4);
    const std::vector<float> before = Draw(1, 64);
    std::vector<float> turned = before;
    table.Turn(3, turned.data());
    EXPECT_EQ(turned, before);
  }
}

TEST(RotaryTable, TurnsNothingButTheAngle) {
  MemoryAccount account(nullptr);
  const RotaryTable table = Table(account, Spec(ChannelLayout::kInterleaved, 32), 0, 300);
  for (std::int64_t row = 0; row < 300; row += 13) {
    const std::vector<float> before = Draw(static_cast<std::uint32_t>(row), 32);
    std::vector<float> turned = before;
    table.Turn(row, turned.data());
    for (std::size_t c = 0; c < 32; c += 2) {
      EXPECT_NEAR(std::hypot(turned[c], turned[c + 1]), std::hypot(before[c], before[c + 1]), 8 * kEpsilon);
    }
  }
}

double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// The reason for it all: q at position m and k at position n meet as if they stood at m + s and n + s.
TEST(RotaryTable, MakesDotProductsDependOnTheDistanceAlone) {
  constexpr std::int64_t kSize = 64;
  MemoryAccount account(nullptr);
  const std::vector<float> q = Draw(1, kSize);
  const std::vector<float> k = Draw(2, kSize);
  for (const ChannelLayout layout : kLayouts) {
    const auto meet = [&](std::int64_t at, std::int64_t distance) {
      std::vector<float> a = q;
      std::vector<float> b = k;
      Table(account, Spec(layout, kSize), at, 1).Turn(0, a.data());
      Table(account, Spec(layout, kSize), at - distance, 1).Turn(0, b.data());
      return Dot(a, b);
    };
    for (const std::int64_t distance : {0, 1, 2, 17, 300, -5}) {
      const double here = meet(0, distance);
      // Each channel is off by two units at most, so their 64 products by as much of |q| + |k|, at most 4 each.
      for (const std::int64_t at : {1, 50, 4096, 100000, -77}) {
        EXPECT_NEAR(meet(at, distance), here, kSize * 4 * 4 * kEpsilon) << distance << " at " << at;
      }
    }
    EXPECT_GT(std::fabs(meet(0, 1) - meet(0, 2)), 0.01);  // and on the distance they do depend
    EXPECT_NEAR(meet(1000, 0), Dot(q, k), kSize * 4 * 4 * kEpsilon);
  }
}

TEST(RotaryTable, FilledInPiecesEqualsTheWhole) {
  MemoryAccount account(nullptr);
  const PositionSpec spec = Spec(ChannelLayout::kHalves, 16);
  const RotaryTable whole = Table(account, spec, 7, 40);
  RotaryTable pieces(account, spec, 7, 40);
  for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{33, 40}, {0, 1}, {1, 33}, {5, 5}}) {
    pieces.Fill(begin, end);
  }
  for (std::int64_t row = 0; row < 40; ++row) {
    std::vector<float> a = Draw(3, 16);
    std::vector<float> b = a;
    whole.Turn(row, a.data());
    pieces.Turn(row, b.data());
    ASSERT_EQ(a, b) << row;
  }
}

TEST(RotaryTable, IsCountedAsPackedMemory) {
  MemoryAccount account(nullptr);
  {
    const RotaryTable table(account, Spec(ChannelLayout::kHalves, 24), 0, 100);
    EXPECT_EQ(account.now(), 100 * 24 * 4);
    EXPECT_EQ(account.peak(MemoryUse::kPacked), 100 * 24 * 4);
  }
  EXPECT_EQ(account.now(), 0);
}

}  // namespace
}  // namespace headlight
