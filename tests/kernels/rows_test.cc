// Row kernels against one number at a time in double, for every length from nothing to several vectors of the widest
// target and a tail, at every alignment of a float within a vector's first bytes.
#include "server/kernels/rows.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <vector>

namespace headlight {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();
constexpr float kSmallest = std::numeric_limits<float>::denorm_min();
constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
constexpr std::int64_t kMostLanes = 16;
constexpr std::int64_t kLongest = 5 * kMostLanes + 2;
constexpr float kGuard = 4711.0F;

// A row between guards, `shift` floats off the alignment of its vector.
class Row {
 public:
  Row(std::int64_t n, std::int64_t shift) : n_(n), shift_(shift), numbers_(static_cast<std::size_t>(n + 32), kGuard) {}
  float* data() { return numbers_.data() + 8 + shift_; }
  float& operator[](std::int64_t i) { return data()[i]; }
  bool GuardsAreWhole() const {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(numbers_.size()); ++i) {
      const bool inside = i >= 8 + shift_ && i < 8 + shift_ + n_;
      if (!inside && numbers_[static_cast<std::size_t>(i)] != kGuard) return false;
    }
    return true;
  }

 private:
  std::int64_t n_;
  std::int64_t shift_;
  std::vector<float> numbers_;
};

// Calls f(n, shift) for every length and some alignments.
void ForLengths(const std::function<void(std::int64_t, std::int64_t)>& f) {
  for (std::int64_t n = 0; n <= kLongest; ++n) {
    for (const std::int64_t shift : {0, 1, 3}) {
      SCOPED_TRACE(testing::Message() << "n " << n << " shift " << shift);
      f(n, shift);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

// Numbers of unit scale, and among them zeros, denormals and large ones.
std::vector<float> Mixed(std::int64_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> numbers(static_cast<std::size_t>(n));
  for (float& x : numbers) {
    const auto draw = random();
    x = static_cast<float>(draw % 20001) / 5000 - 2;
    if (draw % 11 == 0) x = 0.0F * x;
    if (draw % 13 == 0) x *= 0x1p-140F;
    if (draw % 17 == 0) x *= 0x1p125F;
  }
  return numbers;
}

bool SameBits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

TEST(RowMax, FindsTheLargestWhereverItStands) {
  ForLengths([](std::int64_t n, std::int64_t shift) {
    Row row(n, shift);
    for (std::int64_t at = 0; at < n; ++at) {
      for (std::int64_t i = 0; i < n; ++i) row[i] = -3.0F - static_cast<float>(i);
      row[at] = -1.5F;  // below zero: nothing that was padded may win
      ASSERT_EQ(RowMax(row.data(), n), -1.5F) << at;
    }
  });
}

TEST(RowMax, IsMinusInfinityForNothingAndForNothingButThat) {
  EXPECT_EQ(RowMax(nullptr, 0), -kInfinity);
  ForLengths([](std::int64_t n, std::int64_t shift) {
    Row row(n, shift);
    for (std::int64_t i = 0; i < n; ++i) row[i] = -kInfinity;
    ASSERT_EQ(RowMax(row.data(), n), -kInfinity);
  });
}

TEST(RowMax, OrdersDenormalsLargeNumbersAndInfinity) {
  const std::pair<std::vector<float>, float> rows[] = {{{0.0F, kSmallest, -kSmallest}, kSmallest},
                                                       {{-kSmallest, -2 * kSmallest}, -kSmallest},
                                                       {{-kLargest, -kInfinity}, -kLargest},
                                                       {{kLargest, 1.0F, -kInfinity}, kLargest},
                                                       {{1.0F, kInfinity, kLargest}, kInfinity}};
  for (const auto& [row, largest] : rows) {
    EXPECT_EQ(RowMax(row.data(), static_cast<std::int64_t>(row.size())), largest);
  }
}

// Every exponential within 4 units in the last place of the exact one (Highway promises about 1; attention needs 16:
// 5e-6 is 42 of them), where the result is a normal number.
TEST(ExpAndSum, AgreesWithDouble) {
  ForLengths([](std::int64_t n, std::int64_t shift) {
    Row row(n, shift);
    std::mt19937 random(static_cast<std::uint32_t>(n + 1));
    std::vector<float> in(static_cast<std::size_t>(n));
    for (float& x : in) x = -static_cast<float>(random() % 80000) / 1000 + 3;
    std::copy(in.begin(), in.end(), row.data());
    const float by = 3;
    const double sum = ExpAndSum(row.data(), n, by);
    double expected = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double exact = std::exp(static_cast<double>(in[static_cast<std::size_t>(i)] - by));
      ASSERT_NEAR(row[i], exact, 4 * kEpsilon * exact) << in[static_cast<std::size_t>(i)];
      expected += row[i];
    }
    ASSERT_NEAR(sum, expected, static_cast<double>(n) * kEpsilon * expected);
    ASSERT_TRUE(row.GuardsAreWhole());
  });
}

TEST(ExpAndSum, AgreesWithDoubleOverItsWholeRange) {
  for (int i = 0; i <= 4729; ++i) {
    const float x = -87 + static_cast<float>(i) * 0.037F;
    float value = x;
    ExpAndSum(&value, 1, 0);
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_NEAR(value, exact, 4 * kEpsilon * exact) << x;
  }
}

TEST(ExpAndSum, IsExactlyOneAtTheMaximum) {
  ForLengths([](std::int64_t n, std::int64_t shift) {
    Row row(n, shift);
    for (std::int64_t i = 0; i < n; ++i) row[i] = -17.25F;
    ASSERT_EQ(ExpAndSum(row.data(), n, -17.25F), static_cast<float>(n));
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(row[i], 1);
  });
}

TEST(ExpAndSum, IsExactlyZeroForWhatIsForbidden) {
  for (const float shift_by : {0.0F, -1000.0F, 1000.0F, -kLargest, kLargest}) {
    ForLengths([shift_by](std::int64_t n, std::int64_t shift) {
      Row row(n, shift);
      for (std::int64_t i = 0; i < n; ++i) row[i] = -kInfinity;
      ASSERT_EQ(ExpAndSum(row.data(), n, shift_by), 0);
      for (std::int64_t i = 0; i < n; ++i) ASSERT_TRUE(SameBits(row[i], 0.0F)) << i;
      ASSERT_TRUE(row.GuardsAreWhole());
    });
  }
  EXPECT_EQ(ExpAndSum(nullptr, 0, 1), 0);
}

// Below the normal numbers what is left must at least be as small as it should.
TEST(ExpAndSum, VanishesFarBelowTheMaximum) {
  for (const float x : {-88.0F, -95.0F, -103.0F, -104.0F, -110.0F, -1e4F, -kLargest}) {
    float value = x;
    ExpAndSum(&value, 1, 0);
    EXPECT_NEAR(value, std::exp(static_cast<double>(x)), std::numeric_limits<float>::min()) << x;
    EXPECT_GE(value, 0) << x;
  }
  float far[] = {-3e38F, 3e38F};
  EXPECT_EQ(ExpAndSum(far, 2, 3e38F), 1);
  EXPECT_EQ(far[0], 0);
}

TEST(ExpAndSum, DoesNotDependOnAlignment) {
  const std::vector<float> in = Mixed(kLongest, 3);
  Row first(kLongest, 0);
  std::copy(in.begin(), in.end(), first.data());
  const float sum = ExpAndSum(first.data(), kLongest, kLargest);
  for (std::int64_t shift = 1; shift < 16; ++shift) {
    Row other(kLongest, shift);
    std::copy(in.begin(), in.end(), other.data());
    ASSERT_TRUE(SameBits(ExpAndSum(other.data(), kLongest, kLargest), sum)) << shift;
    for (std::int64_t i = 0; i < kLongest; ++i) ASSERT_TRUE(SameBits(other[i], first[i])) << shift << " " << i;
  }
}

// One product per element, so it must be the float that the language's own product is: denormals too.
TEST(ScaleInto, IsTheProductOfFloats) {
  for (const float factor : {0.125F, -3.1F, 0.0F, 1e-30F, 1e30F, kSmallest}) {
    ForLengths([factor](std::int64_t n, std::int64_t shift) {
      std::vector<float> in = Mixed(n, static_cast<std::uint32_t>(n));
      if (n > 2) in[static_cast<std::size_t>(n - 1)] = -kInfinity;
      Row out(n, shift);
      ScaleInto(in.data(), out.data(), n, factor);
      Row same(n, shift);
      std::copy(in.begin(), in.end(), same.data());
      ScaleRow(same.data(), n, factor);
      for (std::int64_t i = 0; i < n; ++i) {
        const float expected = in[static_cast<std::size_t>(i)] * factor;
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(out[i]) && std::isnan(same[i])) << i;
        } else {
          ASSERT_TRUE(SameBits(out[i], expected)) << i << ": " << out[i] << " for " << expected;
          ASSERT_TRUE(SameBits(same[i], expected)) << i;
        }
      }
      ASSERT_TRUE(out.GuardsAreWhole() && same.GuardsAreWhole());
    });
  }
}

TEST(AddRow, IsTheSumOfFloats) {
  ForLengths([](std::int64_t n, std::int64_t shift) {
    const std::vector<float> a = Mixed(n, static_cast<std::uint32_t>(n));
    const std::vector<float> b = Mixed(n, static_cast<std::uint32_t>(n + 1000));
    Row row(n, shift);
    std::copy(a.begin(), a.end(), row.data());
    AddRow(row.data(), b.data(), n);
    for (std::int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::size_t>(i);
      ASSERT_TRUE(SameBits(row[i], a[at] + b[at])) << i;
    }
    ASSERT_TRUE(row.GuardsAreWhole());
  });
}

TEST(AddRow, FollowsIeeeForInfinity) {
  float row[] = {-kInfinity, kInfinity, 1.0F};
  const float other[] = {5.0F, -kInfinity, kNan};
  AddRow(row, other, 3);
  EXPECT_EQ(row[0], -kInfinity);
  EXPECT_TRUE(std::isnan(row[1]));
  EXPECT_TRUE(std::isnan(row[2]));
}

TEST(AddScaledRow, IsTheSumWithTheProduct) {
  ForLengths([](std::int64_t n, std::int64_t shift) {
    for (const float factor : {0.75F, -3.0F, 0.0F}) {
      Row row(n, shift);
      std::vector<float> other(static_cast<std::size_t>(n));
      for (std::int64_t i = 0; i < n; ++i) {
        row.data()[i] = static_cast<float>(i % 5) - 2;
        other[static_cast<std::size_t>(i)] = static_cast<float>(i % 7) / 3 - 1;
      }
      AddScaledRow(row.data(), other.data(), n, factor);
      for (std::int64_t i = 0; i < n; ++i) {
        const double start = static_cast<double>(i % 5) - 2;
        const double product = static_cast<double>(factor) * other[static_cast<std::size_t>(i)];
        ASSERT_NEAR(row[i], start + product, kEpsilon * (std::fabs(start) + std::fabs(product))) << i;
      }
      ASSERT_TRUE(row.GuardsAreWhole());
    }
  });
}

TEST(AddScaledRow, FollowsIeeeForInfinity) {
  float row[] = {1.0F, -kInfinity, 1.0F};
  const float other[] = {kInfinity, kInfinity, 5.0F};
  AddScaledRow(row, other, 3, 0.5F);
  EXPECT_EQ(row[0], kInfinity);
  EXPECT_TRUE(std::isnan(row[1]));
  EXPECT_EQ(row[2], 3.5F);
  AddScaledRow(row, other, 1, 0.0F);
  EXPECT_TRUE(std::isnan(row[0]));
}

// One rounding where the target fuses, two where it does not: one unit of the larger of the two terms.
TEST(SubtractDistance, LowersByTheDistanceOnBothSides) {
  for (const float slope : {0.5F, 0.00390625F, -0.7F, 0.0F}) {
    for (const std::int64_t first : {0, 1, -1, -40, 70, -100000, 1 << 22}) {
      ForLengths([slope, first](std::int64_t n, std::int64_t shift) {
        if (shift == 1) return;
        Row row(n, shift);
        std::vector<float> in(static_cast<std::size_t>(n));
        for (std::int64_t i = 0; i < n; ++i) in[static_cast<std::size_t>(i)] = static_cast<float>(i % 7) / 3 - 1;
        std::copy(in.begin(), in.end(), row.data());
        SubtractDistance(row.data(), n, slope, static_cast<float>(first));
        for (std::int64_t i = 0; i < n; ++i) {
          const double bias = static_cast<double>(slope) * std::fabs(static_cast<double>(first + i));
          const double start = in[static_cast<std::size_t>(i)];
          ASSERT_NEAR(row[i], start - bias, kEpsilon * (std::fabs(start) + std::fabs(bias))) << first << " + " << i;
        }
        ASSERT_TRUE(row.GuardsAreWhole());
      });
    }
  }
}

TEST(SubtractDistance, CountsFromABase) {
  std::vector<float> row(kLongest, 1.0F);
  SubtractDistance(row.data(), kLongest, 0.5F, -3, 2);
  for (std::int64_t i = 0; i < kLongest; ++i) {
    EXPECT_EQ(row[static_cast<std::size_t>(i)], 1 - 0.5F * static_cast<float>(std::abs(i - 3) - 2));
  }
}

TEST(SubtractDistance, KeepsWhatIsForbidden) {
  std::vector<float> row(kLongest, -kInfinity);
  SubtractDistance(row.data(), kLongest, -2.0F, -5);
  for (const float x : row) EXPECT_EQ(x, -kInfinity);
}

TEST(DotInDouble, IsThatOfDoubles) {
  ForLengths([](std::int64_t n, std::int64_t shift) {
    const std::vector<float> a = Mixed(n, 5);
    const std::vector<float> b = Mixed(n, 6);
    Row shifted(n, shift);
    double want = 0;
    double size = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::size_t>(i);
      shifted[i] = a[at];
      const double product = static_cast<double>(a[at]) * static_cast<double>(b[at]);
      want += product;
      size += std::fabs(product);
    }
    // Products of floats are exact in double; only the order of the sums may differ.
    ASSERT_LE(std::fabs(DotInDouble(shifted.data(), b.data(), n) - want), 1e-15 * size * static_cast<double>(n));
  });
}

TEST(FirstNonFinite, FindsTheFirstWhereverItStands) {
  ForLengths([](std::int64_t n, std::int64_t shift) {
    Row row(n, shift);
    for (const float bad : {kNan, -kNan, kInfinity, -kInfinity}) {
      for (std::int64_t at = 0; at < n; ++at) {
        for (std::int64_t i = 0; i < n; ++i) row[i] = static_cast<float>(i);
        row[at] = bad;
        row[n - 1] = bad;
        ASSERT_EQ(FirstNonFinite(row.data(), n), at) << bad;
      }
    }
  });
}

TEST(FirstNonFinite, TakesNoFiniteNumberForOne) {
  EXPECT_EQ(FirstNonFinite(nullptr, 0), 0);
  ForLengths([](std::int64_t n, std::int64_t shift) {
    Row row(n, shift);
    for (const float finite : {kLargest, -kLargest, kSmallest, -0.0F}) {
      for (std::int64_t i = 0; i < n; ++i) row[i] = finite;
      ASSERT_EQ(FirstNonFinite(row.data(), n), n) << finite;
    }
  });
  std::vector<float> long_row(10000, kLargest);  // their sum would overflow
  EXPECT_EQ(FirstNonFinite(long_row.data(), 10000), 10000);
}

// It looks block by block, 1,024 at a time.
TEST(FirstNonFinite, SeesAcrossBlocks) {
  constexpr std::int64_t kSize = 3 * 1024 + 5;
  for (const std::int64_t at : {0, 1023, 1024, 1025, 2047, 2048, 3071, 3072, 3076}) {
    std::vector<float> row(kSize, 1.0F);
    row[static_cast<std::size_t>(at)] = kNan;
    row[kSize - 1] = kInfinity;
    EXPECT_EQ(FirstNonFinite(row.data(), kSize), at);
    EXPECT_EQ(FirstNonFinite(row.data(), at), at);  // the next one is none of its business
  }
}

TEST(SoftcapRow, IsTheTanhOfTheFraction) {
  for (const float cap : {0.5F, 30.0F, 1e30F}) {
    ForLengths([cap](std::int64_t n, std::int64_t shift) {
      Row row(n, shift);
      for (std::int64_t i = 0; i < n; ++i) row[i] = static_cast<float>(i - 20) * 0.7F;
      SoftcapRow(row.data(), n, cap);
      ASSERT_TRUE(row.GuardsAreWhole());
      for (std::int64_t i = 0; i < n; ++i) {
        const double x = static_cast<double>(static_cast<float>(i - 20) * 0.7F);
        const double want = static_cast<double>(cap) * std::tanh(x / static_cast<double>(cap));
        ASSERT_NEAR(row[i], want, 8 * kEpsilon * std::fabs(want) + 1e-12) << i;
      }
    });
  }
}

TEST(SoftcapRow, CapsInfinityAndKeepsNan) {
  float row[] = {kInfinity, -kInfinity, kNan, kLargest, 0};
  SoftcapRow(row, 5, 4);
  EXPECT_EQ(row[0], 4);
  EXPECT_EQ(row[1], -4);
  EXPECT_TRUE(std::isnan(row[2]));
  EXPECT_EQ(row[3], 4);
  EXPECT_EQ(row[4], 0);
}

TEST(ExpMoments, AreSumsOfWeightsScoresAndDistances) {
  ForLengths([](std::int64_t n, std::int64_t shift) {
    Row row(n, shift);
    std::vector<float> distances;
    double weight = 0;
    double score = 0;
    double distance = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      row[i] = i % 5 == 3 ? -kInfinity : 2 - static_cast<float>(i % 7);
      distances.push_back(static_cast<float>(i * 3 % 11));
      const double e = std::exp(static_cast<double>(row[i]) - 2);
      weight += e;
      if (e > 0) score += e * (static_cast<double>(row[i]) - 2);
      distance += e * static_cast<double>(distances.back());
    }
    const RowMoments got = ExpMoments(row.data(), distances.data(), n, 2);
    const double bound = 1e-6 * (1 + weight);
    ASSERT_NEAR(got.weight, weight, bound);
    ASSERT_NEAR(got.score, score, 4 * bound);
    ASSERT_NEAR(got.distance, distance, 10 * bound);
  });
}

TEST(WeightsFromScores, AddUpToOneWhateverTheScores) {
  for (const float level : {0.0F, -1e4F, -1e9F, 3e20F}) {
    std::vector<float> row(64, level);
    WeightsFromScores(row.data(), 64, {level, 1.0F / 64});
    for (const float weight : row) ASSERT_EQ(weight, 1.0F / 64);
  }
}

TEST(WeightsFromScores, KnowsRowsWithoutKeysAndWithoutNumbers) {
  float row[] = {1, -kInfinity, 5};
  WeightsFromScores(row, 3, {kNan, kNan});
  EXPECT_TRUE(std::isnan(row[0]));
  EXPECT_EQ(row[1], 0);
  EXPECT_TRUE(std::isnan(row[2]));
  float empty[] = {-kInfinity, -kInfinity, 7};
  WeightsFromScores(empty, 3, {-kInfinity, 0});
  for (const float weight : empty) EXPECT_EQ(weight, 0);
}

}  // namespace
}  // namespace headlight
