// Rows between kinds, held bit by bit against base/half.h, which tests/base holds against the definition: so every
// target has the same bits.
#include "server/kernels/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "server/base/half.h"

namespace headlight {
namespace {

constexpr std::int64_t kLongest = 82;  // five vectors of the widest target and a tail of two

struct Format {
  TensorKind kind;
  float (*widen)(std::uint16_t);
  std::uint16_t (*narrow)(float);
};
constexpr Format kFormats[] = {{TensorKind::kF16, FloatFromF16, F16FromFloat},
                               {TensorKind::kBF16, FloatFromBF16, BF16FromFloat}};

std::vector<std::uint16_t> EveryPattern() {
  std::vector<std::uint16_t> patterns(0x10000);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<std::uint16_t>(i);
  return patterns;
}

const std::byte* Bytes(const void* data) { return static_cast<const std::byte*>(data); }
std::byte* Bytes(void* data) { return static_cast<std::byte*>(data); }
std::uint32_t Bits(float value) { return std::bit_cast<std::uint32_t>(value); }

TEST(WidenRow, IsExactForEveryPattern) {
  const std::vector<std::uint16_t> in = EveryPattern();
  for (const Format& format : kFormats) {
    std::vector<float> out(in.size());
    WidenRow(format.kind, Bytes(in.data()), out.data(), static_cast<std::int64_t>(in.size()));
    for (std::size_t i = 0; i < in.size(); ++i) {
      ASSERT_EQ(Bits(out[i]), Bits(format.widen(in[i]))) << NameOf(format.kind) << " " << i;
    }
  }
}

TEST(WidenRow, WritesAsManyAsItIsToldAtEveryLength) {
  const std::vector<std::uint16_t> in = EveryPattern();
  for (const Format& format : kFormats) {
    for (std::int64_t n = 0; n <= kLongest; ++n) {
      for (const std::int64_t first : {0, 1, 0x3bfd, 0x7bf9}) {  // zeros and denormals, ones, up to infinity and NaN
        std::vector<float> out(kLongest + 1, 4711.0F);
        WidenRow(format.kind, Bytes(in.data() + first), out.data(), n);
        for (std::int64_t i = 0; i < n; ++i) {
          ASSERT_EQ(Bits(out[static_cast<std::size_t>(i)]), Bits(format.widen(in[static_cast<std::size_t>(first + i)])))
              << NameOf(format.kind) << " n " << n << " at " << first + i;
        }
        ASSERT_EQ(out[static_cast<std::size_t>(n)], 4711.0F) << n;
      }
    }
  }
}

// Both formats' numbers, the middles between neighbours, and what lies just beside either; NaN of every sort.
std::vector<float> EveryEdge() {
  std::vector<float> edges;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Format& format : kFormats) {
    for (std::uint32_t i = 0; i < 0x10000; ++i) {
      const float value = format.widen(static_cast<std::uint16_t>(i));
      const float next = format.widen(static_cast<std::uint16_t>(i + 1));
      const float middle = value / 2 + next / 2;
      for (const float x : {value, middle}) {
        edges.push_back(x);
        edges.push_back(std::nextafter(x, kInfinity));
        edges.push_back(std::nextafter(x, -kInfinity));
      }
    }
  }
  for (std::uint32_t payload = 1; payload < 0x800000; payload = payload * 3 + 1) {
    edges.push_back(std::bit_cast<float>(0x7f800000 | payload));
    edges.push_back(std::bit_cast<float>(0xff800000 | payload));
  }
  return edges;
}

TEST(NarrowRow, RoundsEveryEdgeAsTheScalarDoes) {
  const std::vector<float> in = EveryEdge();
  for (const Format& format : kFormats) {
    std::vector<std::uint16_t> out(in.size());
    NarrowRow(format.kind, in.data(), Bytes(out.data()), static_cast<std::int64_t>(in.size()));
    for (std::size_t i = 0; i < in.size(); ++i) {
      ASSERT_EQ(out[i], format.narrow(in[i])) << NameOf(format.kind) << " " << std::hex << Bits(in[i]);
    }
  }
}

// A NaN whose bits would overflow when they are rounded must not come out as zero.
TEST(NarrowRow, KeepsNanAtEveryPlaceOfAVector) {
  for (const Format& format : kFormats) {
    for (const std::uint32_t bits : {0x7fc00000U, 0xffc00000U, 0x7f800001U, 0xff800001U, 0x7fffffffU, 0xffffffffU}) {
      const std::vector<float> in(kLongest, std::bit_cast<float>(bits));
      std::vector<std::uint16_t> out(kLongest);
      NarrowRow(format.kind, in.data(), Bytes(out.data()), kLongest);
      for (const std::uint16_t half : out) {
        ASSERT_TRUE(std::isnan(format.widen(half))) << NameOf(format.kind) << " " << std::hex << bits << " " << half;
        ASSERT_EQ(half >> 15, bits >> 31);
      }
    }
  }
}

TEST(NarrowRow, WritesAsManyAsItIsToldAtEveryLength) {
  const float special[] = {0.0F,
                           -0.0F,
                           1e-8F,
                           65519.0F,
                           65520.0F,
                           -1e30F,
                           3.3895314e38F,
                           0x1p-24F,
                           1.0F / 3,
                           std::numeric_limits<float>::infinity(),
                           std::numeric_limits<float>::quiet_NaN()};
  for (const Format& format : kFormats) {
    for (std::int64_t n = 0; n <= kLongest; ++n) {
      std::vector<float> in(static_cast<std::size_t>(n));
      for (std::size_t i = 0; i < in.size(); ++i) in[i] = special[(i * 7 + in.size()) % std::size(special)];
      std::vector<std::uint16_t> out(kLongest + 1, 0xabcd);
      NarrowRow(format.kind, in.data(), Bytes(out.data()), n);
      for (std::size_t i = 0; i < in.size(); ++i) {
        ASSERT_EQ(out[i], format.narrow(in[i])) << NameOf(format.kind) << " n " << n << " " << in[i];
      }
      ASSERT_EQ(out[in.size()], 0xabcd) << n;
    }
  }
}

TEST(NarrowRow, MayWriteWhereItReads) {
  for (const Format& format : kFormats) {
    for (const std::int64_t n : {1, 7, 16, 17, 33, 82, 1000}) {
      std::vector<float> row(static_cast<std::size_t>(n));
      for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(i) * 1.37F - 20;
      std::vector<std::uint16_t> expected;
      for (const float x : row) expected.push_back(format.narrow(x));
      NarrowRow(format.kind, row.data(), Bytes(row.data()), n);
      ASSERT_EQ(std::memcmp(row.data(), expected.data(), expected.size() * 2), 0) << NameOf(format.kind) << " " << n;
    }
  }
}

TEST(Convert, CopiesFloatsBitByBit) {
  std::vector<float> in = {1.5F, -0.0F, std::numeric_limits<float>::denorm_min(), std::bit_cast<float>(0x7f800001U),
                           std::numeric_limits<float>::infinity()};
  const auto n = static_cast<std::int64_t>(in.size());
  std::vector<float> wide(in.size());
  std::vector<float> narrow(in.size());
  WidenRow(TensorKind::kF32, Bytes(in.data()), wide.data(), n);
  NarrowRow(TensorKind::kF32, in.data(), Bytes(narrow.data()), n);
  EXPECT_EQ(std::memcmp(in.data(), wide.data(), in.size() * 4), 0);
  EXPECT_EQ(std::memcmp(in.data(), narrow.data(), in.size() * 4), 0);
  NarrowRow(TensorKind::kF32, in.data(), Bytes(in.data()), n);
  EXPECT_EQ(std::memcmp(in.data(), narrow.data(), in.size() * 4), 0);
}

TEST(RoundRowToBF16, IsNarrowingAndWideningAgain) {
  for (std::int64_t n = 0; n <= 70; ++n) {
    std::vector<float> row;
    for (std::int64_t i = 0; i < n; ++i)
      row.push_back(std::ldexp(1.0F + static_cast<float>(i * 37 % 101) / 101, 3 - static_cast<int>(i % 9)));
    std::vector<float> want;
    for (const float x : row) want.push_back(FloatFromBF16(BF16FromFloat(x)));
    RoundRowToBF16(row.data(), n);
    EXPECT_EQ(row, want);
  }
}

}  // namespace
}  // namespace headlight
