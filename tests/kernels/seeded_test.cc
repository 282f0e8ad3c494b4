#include "server/kernels/seeded.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "server/base/half.h"

namespace headlight {
namespace {

constexpr TensorKind kKinds[] = {TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16};

std::vector<float> Numbers(const SeededStream& stream, std::int64_t first, std::int64_t n) {
  std::vector<float> numbers(static_cast<std::size_t>(n));
  SeededRow(stream, first, n, numbers.data());
  return numbers;
}

// Known answers of the reference implementation (Vigna, prng.di.unimi.it/splitmix64.c).
TEST(SplitMix64, GivesTheKnownNumbers) {
  const std::uint64_t of_zero[] = {0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F};
  for (std::uint64_t i = 0; i < 3; ++i) EXPECT_EQ(SplitMix64(0, i), of_zero[i]);
  const std::uint64_t of_1234567[] = {6457827717110365317U, 3203168211198807973U, 9817491932198370423U,
                                      4593380528125082431U, 16408922859458223821U};
  for (std::uint64_t i = 0; i < 5; ++i) EXPECT_EQ(SplitMix64(1234567, i), of_1234567[i]);
}

// Written as everyone writes it, with a state that walks.
TEST(SplitMix64, EqualsTheWalkingGenerator) {
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{42}, std::numeric_limits<std::uint64_t>::max()}) {
    std::uint64_t state = seed;
    for (std::uint64_t i = 0; i < 1000; ++i) {
      std::uint64_t z = (state += 0x9e3779b97f4a7c15);
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
      ASSERT_EQ(SplitMix64(seed, i), z ^ (z >> 31)) << seed << " " << i;
    }
  }
}

// (x >> 40) x 2^-23 - 1 is a float exactly, so only the product with the factor rounds.
TEST(SeededRow, IsTheFormulaInFloat) {
  for (const std::uint64_t seed : {0ULL, 7ULL, ~0ULL}) {
    for (const float factor : {1.0F, kEmbeddingsFactor, 0.03125F}) {
      const std::vector<float> numbers = Numbers({seed, factor, TensorKind::kF32}, 0, 500);
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        const double u = static_cast<double>(SplitMix64(seed, i) >> 40) / (1 << 23) - 1;
        ASSERT_EQ(numbers[i], static_cast<float>(u) * factor) << i;
        ASSERT_EQ(static_cast<double>(static_cast<float>(u)), u);
      }
    }
  }
}

TEST(SeededRow, StartsWithTheNumbersOfSeedZero) {
  const std::vector<float> numbers = Numbers({0, 1, TensorKind::kF32}, 0, 3);
  EXPECT_EQ(numbers[0], static_cast<float>(0xE220A8) / 0x1p23F - 1);
  EXPECT_EQ(numbers[1], static_cast<float>(0x6E789E) / 0x1p23F - 1);
  EXPECT_EQ(numbers[2], static_cast<float>(0x06C45D) / 0x1p23F - 1);
}

TEST(SeededRow, RoundsToItsKind) {
  const std::vector<float> exact = Numbers({5, 0.7F, TensorKind::kF32}, 100, 1500);
  const std::vector<float> f16 = Numbers({5, 0.7F, TensorKind::kF16}, 100, 1500);
  const std::vector<float> bf16 = Numbers({5, 0.7F, TensorKind::kBF16}, 100, 1500);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    ASSERT_EQ(f16[i], FloatFromF16(F16FromFloat(exact[i]))) << i;
    ASSERT_EQ(bf16[i], FloatFromBF16(BF16FromFloat(exact[i]))) << i;
  }
}

TEST(SeededRow, AnyPieceEqualsItsPartOfTheWhole) {
  for (const TensorKind kind : kKinds) {
    const SeededStream stream{99, 1.25F, kind};
    const std::vector<float> whole = Numbers(stream, 0, 2000);
    for (const std::int64_t first : {0, 1, 17, 511, 512, 513, 1999}) {
      for (const std::int64_t n : {0, 1, 2, 16, 100, 511, 512, 513, 1100}) {
        if (first + n > 2000) continue;
        const std::vector<float> piece = Numbers(stream, first, n);
        for (std::int64_t i = 0; i < n; ++i) {
          ASSERT_EQ(piece[static_cast<std::size_t>(i)], whole[static_cast<std::size_t>(first + i)])
              << NameOf(kind) << " " << first << " + " << i;
        }
      }
    }
  }
}

TEST(SeededRow, IsUniformOfVarianceOneForEmbeddings) {
  const std::vector<float> numbers = Numbers({1, kEmbeddingsFactor, TensorKind::kF32}, 0, 100000);
  double sum = 0;
  double squares = 0;
  for (const float x : numbers) {
    ASSERT_GE(x, -kEmbeddingsFactor);
    ASSERT_LT(x, kEmbeddingsFactor);
    sum += x;
    squares += static_cast<double>(x) * x;
  }
  // Five standard errors: 1 / sqrt(n) of the mean, sqrt(4 / 5 / n) of the variance.
  EXPECT_NEAR(sum / 1e5, 0, 5 / std::sqrt(1e5));
  EXPECT_NEAR(squares / 1e5, 1, 5 * std::sqrt(0.8 / 1e5));
}

TEST(SeededRow, DiffersBySeed) {
  EXPECT_NE(Numbers({1, 1, TensorKind::kF32}, 0, 8), Numbers({2, 1, TensorKind::kF32}, 0, 8));
}

TEST(Factors, AreThoseOfTheDefinitions) {
  EXPECT_FLOAT_EQ(kEmbeddingsFactor * kEmbeddingsFactor, 3);
  EXPECT_EQ(WeightsFactor(3, 3), 1);
  EXPECT_EQ(WeightsFactor(12, 12), 0.5F);
  EXPECT_FLOAT_EQ(WeightsFactor(512, 64), std::sqrt(6.0F / 576));
}

}  // namespace
}  // namespace headlight
