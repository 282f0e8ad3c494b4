// The online softmax against one number at a time in double, over tiles of every width around the lanes.
#include "server/kernels/softmax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace headlight {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kSize = 5;  // of the output's rows

// Rows of scores with a number behind them, and what they have gathered. Halves go where scores are.
struct Rows {
  Rows(std::int64_t tile_rows, std::int64_t tile_keys, std::int64_t room)
      : count(tile_rows), keys(tile_keys), padded(room) {
    scores.assign(static_cast<std::size_t>(count * padded + 1), 4711.0F);
    largest.assign(static_cast<std::size_t>(count), kNothing);
    sums.assign(static_cast<std::size_t>(count), 0.0F);
    output.assign(static_cast<std::size_t>(count * kSize), 0.0F);
  }
  float& At(std::int64_t r, std::int64_t key) { return scores[static_cast<std::size_t>(r * padded + key)]; }
  SoftmaxTile Tile(WeightPrecision precision, bool masked) {
    auto* halves = reinterpret_cast<std::uint16_t*>(scores.data());
    return {scores.data(), count,         keys,  padded,    halves, largest.data(),
            sums.data(),   output.data(), kSize, precision, masked};
  }
  // What was stored for a key.
  float Weight(std::int64_t r, std::int64_t key, WeightPrecision precision) {
    if (precision != WeightPrecision::kBF16) return At(r, key);
    std::uint16_t half = 0;
    std::memcpy(&half, reinterpret_cast<const char*>(scores.data()) + 2 * (r * padded + key), 2);
    const std::uint32_t bits = std::uint32_t{half} << 16;
    float value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }

  std::int64_t count, keys, padded;
  std::vector<float> scores, largest, sums, output;
};

void Fill(Rows& rows, std::mt19937& random, float spread, bool masked) {
  for (std::int64_t r = 0; r < rows.count; ++r) {
    for (std::int64_t key = 0; key < rows.keys; ++key) {
      const float score = spread * (static_cast<float>(random() % 20001) / 10000 - 1);
      rows.At(r, key) = masked && random() % 4 == 0 ? kNothing : score;
    }
  }
}

// One tile after another: at the end sums and the scaling of the output are those of one softmax over all keys.
void ExpectSoftmax(std::int64_t keys, WeightPrecision precision, bool masked) {
  const double relative = precision == WeightPrecision::kF32 ? 1e-6 : 0x1p-8 + 1e-5;
  std::mt19937 random(static_cast<std::uint32_t>(keys));
  const std::int64_t padded = (keys + 15) / 16 * 16;
  Rows rows(3, keys, padded);
  std::vector<std::vector<double>> all(3);
  std::vector<double> marks(3, 0.0);  // what the output gathered, times exp(largest)
  for (const float spread : {1.0F, 30.0F, 5.0F}) {
    Fill(rows, random, spread, masked);
    const Rows before = rows;
    ASSERT_EQ(OnlineSoftmax(rows.Tile(precision, masked)), 3);
    for (std::int64_t r = 0; r < 3; ++r) {
      const auto i = static_cast<std::size_t>(r);
      double sum = 0;
      for (std::int64_t key = 0; key < keys; ++key) {
        all[i].push_back(before.scores[static_cast<std::size_t>(r * padded + key)]);
        const double x = all[i].back() - rows.largest[i];
        const double want = std::exp(x);
        // The difference itself is rounded.
        const double bound = std::isfinite(x) ? want * (relative + 2e-7 * std::fabs(x)) : 0;
        ASSERT_NEAR(rows.Weight(r, key, precision), want, bound) << r << " " << key;
      }
      for (std::int64_t key = keys; key < padded; ++key) ASSERT_EQ(rows.Weight(r, key, precision), 0);
      for (const double score : all[i]) sum += std::exp(score - rows.largest[i]);
      ASSERT_NEAR(rows.sums[i], sum, sum * 1e-5);
      ASSERT_EQ(rows.At(2, padded), 4711.0F) << "wrote beyond the padding";
      // The output scales as the sum of what came before does.
      ASSERT_NEAR(rows.output[i * kSize], marks[i] * std::exp(-rows.largest[i]), 1e-4 * (1 + marks[i]));
      rows.output[i * kSize] += 1;
      marks[i] += std::exp(static_cast<double>(rows.largest[i]));
    }
  }
}

TEST(OnlineSoftmax, AgreesWithDoubleForEveryWidth) {
  for (std::int64_t keys = 2; keys <= 5 * 16 + 1; ++keys) {
    for (const WeightPrecision precision :
         {WeightPrecision::kF32, WeightPrecision::kRoundedToBF16, WeightPrecision::kBF16}) {
      ExpectSoftmax(keys, precision, false);
      ExpectSoftmax(keys, precision, true);
    }
  }
  ExpectSoftmax(512, WeightPrecision::kF32, true);
}

TEST(OnlineSoftmax, ExpOfTheLargestIsExactlyOneInFloat32) {
  Rows rows(1, 1, 16);
  rows.At(0, 0) = 123.456F;
  ASSERT_EQ(OnlineSoftmax(rows.Tile(WeightPrecision::kF32, false)), 1);
  EXPECT_EQ(rows.At(0, 0), 1);
  EXPECT_EQ(rows.sums[0], 1);
}

TEST(OnlineSoftmax, RowsThatSeeNothingStayEmpty) {
  for (const WeightPrecision precision : {WeightPrecision::kF32, WeightPrecision::kBF16}) {
    Rows rows(2, 20, 32);
    for (std::int64_t key = 0; key < 20; ++key) {
      rows.At(0, key) = kNothing;
      rows.At(1, key) = key == 7 ? -1e30F : kNothing;
    }
    ASSERT_EQ(OnlineSoftmax(rows.Tile(precision, true)), 2);
    EXPECT_EQ(rows.largest[0], kNothing);
    EXPECT_EQ(rows.sums[0], 0);
    EXPECT_EQ(rows.largest[1], -1e30F);
    for (std::int64_t key = 0; key < 32; ++key) {
      EXPECT_EQ(rows.Weight(0, key, precision), 0);
      EXPECT_EQ(rows.Weight(1, key, precision) != 0, key == 7);
    }
  }
}

// Keys that a row may not see are not even looked at.
TEST(OnlineSoftmax, SpansAreMasksWhateverStandsOutside) {
  for (const WeightPrecision precision :
       {WeightPrecision::kF32, WeightPrecision::kRoundedToBF16, WeightPrecision::kBF16}) {
    for (const KeySpan span :
         {KeySpan{0, 70}, KeySpan{0, 1}, KeySpan{3, 40}, KeySpan{17, 70}, KeySpan{69, 70}, KeySpan{5, 5}}) {
      Rows rows(1, 70, 80);
      std::mt19937 random(2);
      Fill(rows, random, 3, false);
      Rows masked = rows;
      for (std::int64_t key = 0; key < 70; ++key) {
        if (key >= span.begin && key < span.end) continue;
        rows.At(0, key) = std::numeric_limits<float>::quiet_NaN();
        masked.At(0, key) = kNothing;
      }
      SoftmaxTile tile = rows.Tile(precision, false);
      tile.seen = &span;
      ASSERT_EQ(OnlineSoftmax(tile), 1);
      ASSERT_EQ(OnlineSoftmax(masked.Tile(precision, true)), 1);
      EXPECT_EQ(rows.largest, masked.largest);
      EXPECT_NEAR(rows.sums[0], masked.sums[0], 1e-6 * masked.sums[0]);
      for (std::int64_t key = 0; key < 80; ++key) {
        EXPECT_EQ(rows.Weight(0, key, precision), masked.Weight(0, key, precision)) << key;
      }
    }
  }
}

TEST(OnlineSoftmax, NamesTheFirstRowThatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), kNothing}) {
    for (const std::int64_t at : {0, 15, 16, 63, 64, 69}) {
      Rows rows(3, 70, 80);
      std::mt19937 random(1);
      Fill(rows, random, 1, false);
      rows.At(1, at) = bad;
      EXPECT_EQ(OnlineSoftmax(rows.Tile(WeightPrecision::kF32, false)), 1) << bad << " at " << at;
      EXPECT_EQ(rows.sums[1], 0);
      EXPECT_GT(rows.sums[0], 0);
    }
  }
}

TEST(OnlineSoftmax, ScoresOfAnySizeNeedNoRoomForALogarithm) {
  Rows rows(1, 2, 16);
  rows.At(0, 0) = -3e38F;
  rows.At(0, 1) = 3e38F;
  ASSERT_EQ(OnlineSoftmax(rows.Tile(WeightPrecision::kF32, false)), 1);
  EXPECT_EQ(rows.At(0, 0), 0);
  EXPECT_EQ(rows.At(0, 1), 1);
}

}  // namespace
}  // namespace headlight
