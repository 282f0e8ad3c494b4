#include "server/base/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace headlight {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What the bits of an IEEE format mean, by the definition: sign, exponent, mantissa. Infinity and NaN excluded.
double Meaning(std::uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double fraction = static_cast<double>(mantissa) / (1 << mantissa_bits);
  const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

struct Format {
  const char* name;
  int exponent_bits;
  int mantissa_bits;
  float (*widen)(std::uint16_t);
  std::uint16_t (*narrow)(float);

  std::uint16_t Infinity() const { return static_cast<std::uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits); }
  bool IsFinite(std::uint32_t bits) const { return (bits & 0x7fff) < Infinity(); }
};
constexpr Format kFormats[] = {{"f16", 5, 10, FloatFromF16, F16FromFloat},
                               {"bf16", 8, 7, FloatFromBF16, BF16FromFloat}};

TEST(Half, WidensEveryNumberExactly) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.name);
    for (std::uint32_t i = 0; i < 0x10000; ++i) {
      const auto bits = static_cast<std::uint16_t>(i);
      const float value = format.widen(bits);
      ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << bits;
      if (format.IsFinite(bits)) {
        ASSERT_EQ(value, Meaning(bits, format.exponent_bits, format.mantissa_bits)) << bits;
      } else if ((bits & 0x7fff) == format.Infinity()) {
        ASSERT_TRUE(std::isinf(value)) << bits;
      } else {
        ASSERT_TRUE(std::isnan(value)) << bits;
      }
    }
  }
}

// All 65,536 patterns; a NaN keeps sign and payload and becomes quiet, as the processor's own instructions do it.
TEST(Half, EveryPatternComesBackFromFloat) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.name);
    const std::uint32_t quiet = 1U << (format.mantissa_bits - 1);
    for (std::uint32_t i = 0; i < 0x10000; ++i) {
      const std::uint32_t nan = (i & 0x7fff) > format.Infinity() ? quiet : 0;
      ASSERT_EQ(format.narrow(format.widen(static_cast<std::uint16_t>(i))), i | nan) << i;
    }
  }
}

// Between each pair of neighbours, zero, subnormals and the step to infinity included: below the middle down, above it
// up, on it to the even one. That decides every float, because rounding is monotonic.
TEST(Half, RoundsToNearestTiesToEven) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.name);
    for (std::uint32_t i = 0; i < format.Infinity(); ++i) {
      const double low = Meaning(static_cast<std::uint16_t>(i), format.exponent_bits, format.mantissa_bits);
      const double high = Meaning(static_cast<std::uint16_t>(i + 1), format.exponent_bits, format.mantissa_bits);
      const auto middle = static_cast<float>((low + high) / 2);
      ASSERT_EQ(static_cast<double>(middle), (low + high) / 2) << "the middle must be a float, or this tests nothing";
      const std::uint32_t even = (i & 1) == 0 ? i : i + 1;
      ASSERT_EQ(format.narrow(middle), even) << i;
      ASSERT_EQ(format.narrow(-middle), even | 0x8000) << i;
      ASSERT_EQ(format.narrow(std::nextafter(middle, 0.0F)), i) << i;
      ASSERT_EQ(format.narrow(std::nextafter(middle, kInfinity)), i + 1) << i;
    }
  }
}

TEST(Half, RoundsTheEdgesOfItsRange) {
  EXPECT_EQ(F16FromFloat(65504), 0x7bff);  // the largest
  EXPECT_EQ(F16FromFloat(65519.996F), 0x7bff);
  EXPECT_EQ(F16FromFloat(65520), 0x7c00);
  EXPECT_EQ(F16FromFloat(-65520), 0xfc00);
  EXPECT_EQ(F16FromFloat(std::numeric_limits<float>::max()), 0x7c00);
  EXPECT_EQ(F16FromFloat(0x1p-14F), 0x0400);  // the smallest normal number
  EXPECT_EQ(F16FromFloat(0x1p-24F), 0x0001);  // the smallest of all
  EXPECT_EQ(F16FromFloat(0x1p-25F), 0x0000);  // a tie, to even
  EXPECT_EQ(F16FromFloat(0x1.000002p-25F), 0x0001);
  EXPECT_EQ(BF16FromFloat(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(BF16FromFloat(0x1.fep127F), 0x7f7f);  // the largest
  EXPECT_EQ(BF16FromFloat(0x1.fefffep127F), 0x7f7f);
  EXPECT_EQ(BF16FromFloat(0x1.ffp127F), 0x7f80);
  EXPECT_EQ(BF16FromFloat(std::numeric_limits<float>::denorm_min()), 0x0000);
}

TEST(Half, KeepsZeroItsSignAndInfinity) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.name);
    EXPECT_EQ(format.narrow(0.0F), 0x0000);
    EXPECT_EQ(format.narrow(-0.0F), 0x8000);
    EXPECT_EQ(format.narrow(kInfinity), format.Infinity());
    EXPECT_EQ(format.narrow(-kInfinity), format.Infinity() | 0x8000);
    EXPECT_EQ(format.narrow(1.0F), format.exponent_bits == 5 ? 0x3c00 : 0x3f80);
  }
}

// NaN whose payload lies in the bits that are cut off must not turn into infinity, nor wrap around to zero.
TEST(Half, NanStaysNan) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.name);
    for (const std::uint32_t bits : {0x7fc00000U, 0xffc00000U, 0x7f800001U, 0xff800001U, 0x7fffffffU, 0xffffffffU}) {
      const std::uint16_t half = format.narrow(std::bit_cast<float>(bits));
      EXPECT_TRUE(std::isnan(format.widen(half))) << std::hex << bits;
      EXPECT_EQ(half & 0x8000, bits >> 16 & 0x8000) << std::hex << bits;
    }
  }
}

TEST(ElementAsFloat, ReadsEveryKindByItsFlatIndex) {
  const float floats[] = {1.5F, -2.25F, 1e-40F};
  const std::uint16_t f16[] = {0x3c00, 0x0001, 0xfbff};
  const std::uint16_t bf16[] = {0x3f80, 0x0001, 0xff7f};
  const std::uint8_t bools[] = {0, 1, 255};
  const auto view = [](TensorKind kind, const void* data) {
    return TensorView{kind, {3}, static_cast<const std::byte*>(data)};
  };
  for (std::int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(ElementAsFloat(view(TensorKind::kF32, floats), i), floats[i]);
    EXPECT_EQ(ElementAsFloat(view(TensorKind::kF16, f16), i), FloatFromF16(f16[i]));
    EXPECT_EQ(ElementAsFloat(view(TensorKind::kBF16, bf16), i), FloatFromBF16(bf16[i]));
    EXPECT_EQ(ElementAsFloat(view(TensorKind::kBool, bools), i), static_cast<float>(bools[i]));
  }
}

}  // namespace
}  // namespace headlight
