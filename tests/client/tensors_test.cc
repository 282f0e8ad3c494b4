#include "client/cpp/tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace headlight::client {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Tensors, RoundTripInEachKind) {
  const std::vector<float> values = {0, 1, -2, 0.5F, 1024, -0.25F};
  for (const v1::TensorKind kind : {v1::TENSOR_KIND_F32, v1::TENSOR_KIND_F16, v1::TENSOR_KIND_BF16}) {
    const auto tensor = MakeTensor(values, {2, 3}, kind);
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    EXPECT_EQ(KindOf(*tensor), kind);
    EXPECT_EQ(tensor->shape_size(), 2);
    EXPECT_EQ(FloatsOf(*tensor).value(), values);
  }
}

TEST(Tensors, BytesAreLittleEndian) {
  EXPECT_EQ(MakeTensor({1.0F}, {1}, v1::TENSOR_KIND_F32)->f32_le(), std::string("\x00\x00\x80\x3f", 4));
  EXPECT_EQ(MakeTensor({1.0F}, {1}, v1::TENSOR_KIND_F16)->f16_le(), std::string("\x00\x3c", 2));
  EXPECT_EQ(MakeTensor({1.0F}, {1}, v1::TENSOR_KIND_BF16)->bf16_le(), std::string("\x80\x3f", 2));
}

TEST(Tensors, BooleansAreZeroAndOne) {
  const auto tensor = MakeTensor({0, 1, 7}, {3}, v1::TENSOR_KIND_BOOL);
  EXPECT_EQ(tensor->bool_u8(), std::string("\0\1\1", 3));
  EXPECT_EQ(FloatsOf(*tensor).value(), (std::vector<float>{0, 1, 1}));
}

TEST(Tensors, ReadsFloatsWrittenAsNumbers) {
  v1::Tensor tensor;
  tensor.add_shape(2);
  tensor.mutable_f32_values()->add_values(1.5F);
  tensor.mutable_f32_values()->add_values(-3);
  EXPECT_EQ(KindOf(tensor), v1::TENSOR_KIND_F32);
  EXPECT_EQ(FloatsOf(tensor).value(), (std::vector<float>{1.5F, -3}));
}

TEST(Tensors, RefusesWhatDoesNotAddUp) {
  EXPECT_EQ(MakeTensor({1, 2, 3}, {2, 2}, v1::TENSOR_KIND_F32).status().message(),
            "3 values for a tensor of shape [2, 2]");
  EXPECT_FALSE(MakeTensor({1}, {-1, -1}, v1::TENSOR_KIND_F32).ok());
  EXPECT_FALSE(MakeTensor({1}, {1}, v1::TENSOR_KIND_UNSPECIFIED).ok());
  EXPECT_FALSE(MakeTensor({1}, {1}, static_cast<v1::TensorKind>(99)).ok());
  v1::Tensor tensor;
  EXPECT_FALSE(FloatsOf(tensor).ok());
  EXPECT_EQ(KindOf(tensor), v1::TENSOR_KIND_UNSPECIFIED);
  tensor.add_shape(1);
  tensor.set_f32_le("abc");
  EXPECT_FALSE(FloatsOf(tensor).ok());
  tensor.set_f32_le("abcdefgh");
  EXPECT_FALSE(FloatsOf(tensor).ok());
}

TEST(Tensors, CountsElementsWithoutOverflow) {
  EXPECT_EQ(ElementCount({}), 1);
  EXPECT_EQ(ElementCount({2, 3, 4}), 24);
  EXPECT_EQ(ElementCount({0, std::numeric_limits<std::int64_t>::max(), 2}), 0);
  EXPECT_EQ(ElementCount({std::int64_t{1} << 32, std::int64_t{1} << 32}), std::nullopt);
  EXPECT_EQ(ElementCount({-1}), std::nullopt);
  EXPECT_EQ(ElementCount({0, -1}), std::nullopt);
}

TEST(Tensors, EveryHalfSurvivesTheWayThere) {
  for (int bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float f16 = FloatFromF16(half);
    const float bf16 = FloatFromBf16(half);
    if (std::isnan(f16)) {
      EXPECT_TRUE(std::isnan(FloatFromF16(F16FromFloat(f16))));
    } else {
      EXPECT_EQ(F16FromFloat(f16), half);
    }
    if (std::isnan(bf16)) {
      EXPECT_TRUE(std::isnan(FloatFromBf16(Bf16FromFloat(bf16))));
    } else {
      EXPECT_EQ(Bf16FromFloat(bf16), half);
    }
  }
}

TEST(Tensors, KnownHalves) {
  EXPECT_EQ(FloatFromF16(0x3555), 0.333251953125F);
  EXPECT_EQ(FloatFromF16(0x0001), std::ldexp(1.0F, -24));
  EXPECT_EQ(FloatFromF16(0x03ff), std::ldexp(1023.0F, -24));
  EXPECT_EQ(FloatFromF16(0x0400), std::ldexp(1.0F, -14));
  EXPECT_EQ(FloatFromF16(0x7bff), 65504.0F);
  EXPECT_EQ(FloatFromF16(0xfc00), -kInfinity);
  EXPECT_TRUE(std::signbit(FloatFromF16(0x8000)));
  EXPECT_EQ(FloatFromBf16(0x3f81), 1.0078125F);
}

// Between two neighbours the nearer one is taken, and in the middle the one whose last bit is 0.
TEST(Tensors, RoundsToNearestTiesToEven) {
  for (int bits = 0; bits < 0x7bff; ++bits) {
    const float low = FloatFromF16(static_cast<std::uint16_t>(bits));
    const float high = FloatFromF16(static_cast<std::uint16_t>(bits + 1));
    const float middle = (low + high) / 2;
    const int even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(F16FromFloat(middle), even) << bits;
    ASSERT_EQ(F16FromFloat(-middle), even | 0x8000) << bits;
    ASSERT_EQ(F16FromFloat(std::nextafter(middle, 0.0F)), bits);
    ASSERT_EQ(F16FromFloat(std::nextafter(middle, kInfinity)), bits + 1);
  }
  for (int bits = 0; bits < 0x7f7f; ++bits) {
    const float low = FloatFromBf16(static_cast<std::uint16_t>(bits));
    const float high = FloatFromBf16(static_cast<std::uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    ASSERT_EQ(Bf16FromFloat(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(Bf16FromFloat(std::nextafter(middle, 0.0F)), bits);
    ASSERT_EQ(Bf16FromFloat(std::nextafter(middle, kInfinity)), bits + 1);
  }
}

TEST(Tensors, TooLargeBecomesInfinity) {
  EXPECT_EQ(F16FromFloat(65519.996F), 0x7bff);
  EXPECT_EQ(F16FromFloat(65520.0F), 0x7c00);
  EXPECT_EQ(F16FromFloat(-1e30F), 0xfc00);
  EXPECT_EQ(F16FromFloat(kInfinity), 0x7c00);
  EXPECT_EQ(Bf16FromFloat(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(F16FromFloat(std::numeric_limits<float>::denorm_min()), 0);
}

}  // namespace
}  // namespace headlight::client
