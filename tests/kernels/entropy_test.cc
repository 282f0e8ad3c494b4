// Sums of x ln x against one number at a time in double, over lengths around vectors and pieces.
#include "server/kernels/entropy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace headlight {
namespace {

constexpr std::int64_t kLengths[] = {0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 511, 512, 513, 1500};

// Weights of a row, some of them 0, tiny or all there is.
std::vector<float> Weights(std::int64_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> weights(static_cast<std::size_t>(n));
  for (float& w : weights) {
    const auto draw = random();
    w = static_cast<float>(draw % 1000) / 1000;
    if (draw % 5 == 0) w = 0;
    if (draw % 7 == 0) w *= 1e-30F;
    if (draw % 11 == 0) w = std::numeric_limits<float>::denorm_min();
    if (draw % 13 == 0) w = 1;
  }
  return weights;
}

double Slow(const std::vector<float>& a, const std::vector<float>& b, std::size_t from) {
  double sum = 0;
  for (std::size_t i = from; i < a.size(); ++i) {
    const double m = (static_cast<double>(a[i]) + static_cast<double>(b[i])) / 2;
    if (m > 0) sum += m * std::log(m);
  }
  return sum;
}

TEST(MixedLogSum, AgreesWithTheDefinition) {
  for (const std::int64_t n : kLengths) {
    const std::vector<float> a = Weights(n, 1);
    const std::vector<float> b = Weights(n, 2);
    for (std::int64_t from = 0; from < std::min<std::int64_t>(n, 4); ++from) {
      const auto at = static_cast<std::size_t>(from);
      for (const std::vector<float>* other : {&a, &b}) {
        const double want = Slow(a, *other, at);
        EXPECT_NEAR(MixedLogSum(a.data() + from, other->data() + from, n - from), want, 1e-6 * (1 + std::fabs(want)))
            << n << " " << from;
      }
    }
  }
  EXPECT_EQ(MixedLogSum(nullptr, nullptr, 0), 0);
}

TEST(MixedLogSum, OfEqualRowsIsTheSameBits) {
  const std::vector<float> a = Weights(1500, 3);
  const std::vector<float> copy(a.begin(), a.end());
  EXPECT_EQ(MixedLogSum(a.data(), a.data(), 1500), MixedLogSum(a.data(), copy.data(), 1500));
}

TEST(MixedLogSum, NothingAndEverythingHaveNoEntropyAndNaNStays) {
  std::vector<float> row(40, 0.0F);
  row[17] = 1;
  EXPECT_EQ(MixedLogSum(row.data(), row.data(), 40), 0);
  for (const std::size_t at : {std::size_t{3}, std::size_t{39}}) {
    std::vector<float> flawed = row;
    flawed[at] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(MixedLogSum(flawed.data(), row.data(), 40))) << at;
  }
}

}  // namespace
}  // namespace headlight
