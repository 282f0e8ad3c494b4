// The double reference, by hand: everything else is held against it.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "server/base/half.h"
#include "server/kernels/reference/attention.h"

namespace headlight::reference {
namespace {

constexpr double kForbidden = -std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kPi = 3.14159265358979323846;
// A few operations on numbers around 1.
constexpr double kClose = 1e-14;

// One row with room for its results: D 2, Dv 2, as many keys as given.
struct Problem {
  std::vector<double> query = {1, 0};
  std::vector<double> keys;
  std::vector<double> values;
  std::vector<double> bias;
  double scale = 1;
  std::vector<double> weights = std::vector<double>(16, kNan);
  std::vector<double> output = std::vector<double>(2, kNan);

  Row View() {
    const auto count = static_cast<std::int64_t>(bias.size());
    return {query.data(), {keys.data(), count, 2, 2}, {values.data(), count, 2, 2}, bias.data(), scale, weights.data(),
            output.data()};
  }
};

TEST(Attend, SharesEquallyAmongEqualScores) {
  Problem p{.keys = {5, 1, 5, 2, 5, 3, 5, 4}, .values = {1, 10, 2, 20, 3, 30, 6, 60}, .bias = {0, 0, 0, 0}};
  EXPECT_NEAR(Attend(p.View()), 5 + std::log(4.0), kClose);
  for (int j = 0; j < 4; ++j) EXPECT_NEAR(p.weights[j], 0.25, kClose);
  EXPECT_NEAR(p.output[0], 3, kClose);
  EXPECT_NEAR(p.output[1], 30, 10 * kClose);
}

// Scores 0, ln 2 and ln 5: weights 1/8, 2/8 and 5/8.
TEST(Attend, WeighsByTheExponentialOfTheScores) {
  Problem p{.keys = {0, 9, std::log(2.0), 9, std::log(5.0), 9}, .values = {8, 0, 0, 8, 16, 24}, .bias = {0, 0, 0}};
  EXPECT_NEAR(Attend(p.View()), std::log(8.0), kClose);
  EXPECT_NEAR(p.weights[0], 0.125, kClose);
  EXPECT_NEAR(p.weights[1], 0.25, kClose);
  EXPECT_NEAR(p.weights[2], 0.625, kClose);
  EXPECT_NEAR(p.output[0], 1 + 10, 10 * kClose);
  EXPECT_NEAR(p.output[1], 2 + 15, 10 * kClose);
}

TEST(Attend, ScalesBeforeTheBiasIsAdded) {
  Problem p{.query = {3, 4}, .keys = {1, 2, 2, 1}, .values = {1, 0, 0, 1}, .bias = {1, 2}, .scale = 0.5};
  // Scores 0.5 x 11 + 1 = 6.5 and 0.5 x 10 + 2 = 7.
  EXPECT_NEAR(Attend(p.View()), 7 + std::log(1 + std::exp(-0.5)), kClose);
  EXPECT_NEAR(p.weights[1], 1 / (1 + std::exp(-0.5)), kClose);
  EXPECT_NEAR(p.output[0] + p.output[1], 1, kClose);
  p.scale = -1;
  p.bias = {11, 10};
  EXPECT_NEAR(Attend(p.View()), std::log(2.0), kClose);
}

TEST(Attend, AddsWeightsUpToOne) {
  Problem p{
      .keys = {1, 0, -7, 0, 3, 0, 0.5, 0, 30, 0}, .values = std::vector<double>(10, 1), .bias = {0, 9, -2, 4, -31}};
  Attend(p.View());
  double sum = 0;
  for (int j = 0; j < 5; ++j) sum += p.weights[j];
  EXPECT_NEAR(sum, 1, kClose);
  EXPECT_NEAR(p.output[0], 1, kClose);
}

// What is forbidden may hold anything: neither its key nor its value is read.
TEST(Attend, NeverReadsAForbiddenKey) {
  Problem p{.keys = {kNan, kNan, 0, 0, -kForbidden, 1, std::log(3.0), 0},
            .values = {kNan, kNan, 4, 8, -kForbidden, kNan, 8, 4},
            .bias = {kForbidden, 0, kForbidden, 0}};
  EXPECT_NEAR(Attend(p.View()), std::log(4.0), kClose);
  EXPECT_EQ(p.weights[0], 0);
  EXPECT_NEAR(p.weights[1], 0.25, kClose);
  EXPECT_EQ(p.weights[2], 0);
  EXPECT_NEAR(p.weights[3], 0.75, kClose);
  EXPECT_NEAR(p.output[0], 7, 10 * kClose);
  EXPECT_NEAR(p.output[1], 5, 10 * kClose);
}

TEST(Attend, GivesZeroAndMinusInfinityWhereNoKeyIsLeft) {
  Problem p{.keys = {kNan, kNan, 1, 1}, .values = {kNan, 1, 1, kNan}, .bias = {kForbidden, kForbidden}};
  EXPECT_EQ(Attend(p.View()), kForbidden);
  EXPECT_EQ(p.weights[0], 0);
  EXPECT_EQ(p.weights[1], 0);
  EXPECT_EQ(p.output[0], 0);
  EXPECT_EQ(p.output[1], 0);
  Problem none;
  EXPECT_EQ(Attend(none.View()), kForbidden);
  EXPECT_EQ(none.output[0], 0);
}

// The maximum starts at -inf, not at 0, and is taken off before the exponential.
TEST(Attend, HoldsFarBelowAndFarAboveZero) {
  for (const double far : {-1e6, -800.0, 800.0, 1e6}) {
    Problem p{.keys = {far, 0, far + std::log(3.0), 0}, .values = {0, 0, 4, 8}, .bias = {0, 0}};
    EXPECT_NEAR(Attend(p.View()), far + std::log(4.0), std::fabs(far) * 1e-15) << far;
    // A score of a million leaves ten digits of the difference.
    EXPECT_NEAR(p.output[0], 3, 1e-9) << far;
    EXPECT_NEAR(p.output[1], 6, 1e-9) << far;
  }
}

TEST(Attend, GivesAllToOneKeyAlone) {
  Problem p{.keys = {-123, 0}, .values = {7, -8}, .bias = {0.5}};
  EXPECT_EQ(Attend(p.View()), -122.5);
  EXPECT_EQ(p.weights[0], 1);
  EXPECT_EQ(p.output[0], 7);
  EXPECT_EQ(p.output[1], -8);
}

TEST(Passes, InPiecesEqualTheWhole) {
  const Problem start{.keys = {1, 0, 2, 0, 0.5, 0, -1, 0, 3, 0},
                      .values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
                      .bias = {0, kForbidden, 0.25, 0, -1}};
  Problem whole = start;
  const double log_sum_exp = Attend(whole.View());
  for (std::int64_t cut = 0; cut <= 5; ++cut) {
    Problem pieces = start;
    const Row row = pieces.View();
    Score(row, 0, cut);
    Score(row, cut, 5);
    EXPECT_EQ(Softmax(row), log_sum_exp);
    Blend(row, 0, cut);
    if (cut > 0) Blend(row, cut, 5);
    if (cut == 0) Blend(row, 0, 5);
    EXPECT_EQ(pieces.output, whole.output) << cut;
    for (int j = 0; j < 5; ++j) EXPECT_EQ(pieces.weights[j], whole.weights[j]);
  }
}

TEST(Passes, FollowTheStrideOfTheirMatrices) {
  const double keys[] = {0, 0, kNan, std::log(3.0), 0, kNan};
  const double values[] = {4, kNan, 8, kNan};
  const double query[] = {1, 0};
  const double bias[] = {0, 0};
  double weights[2];
  double output[1];
  Attend({query, {keys, 2, 2, 3}, {values, 2, 1, 2}, bias, 1, weights, output});
  EXPECT_NEAR(output[0], 7, 10 * kClose);
}

TEST(Project, MultipliesFromTheLeftAndAddsTheBias) {
  const double x[] = {2, -1};
  const float w[] = {1, 2, 3, 10, 20, 30};  // [2, 3]
  const float b[] = {0.5F, 0, -0.5F};
  const TensorView weights{TensorKind::kF32, {2, 3}, reinterpret_cast<const std::byte*>(w)};
  const TensorView bias{TensorKind::kF32, {3}, reinterpret_cast<const std::byte*>(b)};
  std::array<double, 3> out{};
  Project(x, weights, {}, 0, 3, out.data());
  EXPECT_EQ(out, (std::array<double, 3>{-8, -16, -24}));
  Project(x, weights, bias, 0, 3, out.data());
  EXPECT_EQ(out, (std::array<double, 3>{-7.5, -16, -24.5}));
  out.fill(7);
  Project(x, weights, bias, 1, 3, out.data());  // columns 1 and 2, the first of them first
  EXPECT_EQ(out, (std::array<double, 3>{-16, -24.5, 7}));
}

TEST(Project, ReadsEveryKind) {
  const double x[] = {3};
  const std::uint16_t f16 = F16FromFloat(0.125F);
  const std::uint16_t bf16 = BF16FromFloat(-2.5F);
  double out = 0;
  Project(x, {TensorKind::kF16, {1, 1}, reinterpret_cast<const std::byte*>(&f16)}, {}, 0, 1, &out);
  EXPECT_EQ(out, 0.375);
  Project(x, {TensorKind::kBF16, {1, 1}, reinterpret_cast<const std::byte*>(&bf16)}, {}, 0, 1, &out);
  EXPECT_EQ(out, -7.5);
}

// With two channels the angle is the position itself, whatever the base.
TEST(Turn, TurnsPairsByThePositionsAngle) {
  for (const bool halves : {false, true}) {
    double x[] = {1, 0};
    Turn(x, 2, halves, 10000, 1);
    EXPECT_NEAR(x[0], std::cos(1.0), kClose);
    EXPECT_NEAR(x[1], std::sin(1.0), kClose);
  }
  double still[] = {1, 2, 3, 4};
  Turn(still, 4, true, 10000, 0);
  EXPECT_EQ(still[0], 1);
  EXPECT_EQ(still[3], 4);
}

// Size 4, base 16: pair 0 turns by the position, pair 1 by a quarter of it.
TEST(Turn, PairsChannelsAsTheLayoutSays) {
  const double a = 2;
  const double b = 2 * 0.25;
  double halves[] = {1, 1, 0, 0, 99};  // pairs (0, 2) and (1, 3)
  Turn(halves, 4, true, 16, 2);
  EXPECT_NEAR(halves[0], std::cos(a), kClose);
  EXPECT_NEAR(halves[2], std::sin(a), kClose);
  EXPECT_NEAR(halves[1], std::cos(b), kClose);
  EXPECT_NEAR(halves[3], std::sin(b), kClose);
  EXPECT_EQ(halves[4], 99);
  double interleaved[] = {1, 0, 0, 1, 99};  // pairs (0, 1) and (2, 3)
  Turn(interleaved, 4, false, 16, 2);
  EXPECT_NEAR(interleaved[0], std::cos(a), kClose);
  EXPECT_NEAR(interleaved[1], std::sin(a), kClose);
  EXPECT_NEAR(interleaved[2], -std::sin(b), kClose);
  EXPECT_NEAR(interleaved[3], std::cos(b), kClose);
  EXPECT_EQ(interleaved[4], 99);
}

TEST(Turn, BackwardsUndoesForwards) {
  double x[] = {0.3, -1, 2, 0.7, 5, 6};
  Turn(x, 6, true, 10000, 41);
  Turn(x, 6, true, 10000, -41);
  const double expected[] = {0.3, -1, 2, 0.7, 5, 6};
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(x[i], expected[i], 1e-13);
}

// Section 3.5 of the paper: PE(pos, 2i) = sin(pos / 10000^(2i / d)), PE(pos, 2i + 1) = cos of the same.
TEST(AddSinusoid, FollowsThePaper) {
  for (const std::int64_t position : {0, 1, 7, 500}) {
    std::vector<double> interleaved(8, 100);
    std::vector<double> halves(8, -3);
    AddSinusoid(interleaved.data(), 8, false, 10000, position);
    AddSinusoid(halves.data(), 8, true, 10000, position);
    for (int i = 0; i < 4; ++i) {
      const double angle = static_cast<double>(position) / std::pow(10000.0, 2.0 * i / 8);
      EXPECT_NEAR(interleaved[2 * i], 100 + std::sin(angle), 1e-12);
      EXPECT_NEAR(interleaved[2 * i + 1], 100 + std::cos(angle), 1e-12);
      EXPECT_NEAR(halves[i], -3 + std::sin(angle), 1e-12);
      EXPECT_NEAR(halves[4 + i], -3 + std::cos(angle), 1e-12);
    }
  }
  double quarter[] = {0, 0};
  AddSinusoid(quarter, 2, false, 10000, 11);  // 11 is 3.5 pi, nearly
  EXPECT_NEAR(quarter[0], -1, 1e-4);
  EXPECT_NEAR(quarter[1], 11 - 3.5 * kPi, 1e-6);
}

}  // namespace
}  // namespace headlight::reference
