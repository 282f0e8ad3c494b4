// What is added to scores, against a definition of its own by brute force.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "server/masks/rules.h"
#include "tests/masks/cases.h"

namespace headlight {
namespace {

constexpr TensorKind kKinds[] = {TensorKind::kBool, TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16};
constexpr float kUntouched = 12345.0F;
constexpr std::int64_t kGap = 3;  // elements between the rows of a tile, which nobody may touch

// Scores of a tile, every one different, with room around each row.
struct Scores {
  explicit Scores(const Tile& tile)
      : stride(tile.keys.size() + kGap), numbers(static_cast<std::size_t>(tile.rows.size() * stride), kUntouched) {
    for (std::int64_t r = 0; r < tile.rows.size(); ++r) {
      for (std::int64_t c = 0; c < tile.keys.size(); ++c) At(r, c) = static_cast<float>(r * 100 + c) / 8 - 3;
    }
  }
  float& At(std::int64_t r, std::int64_t c) { return numbers[static_cast<std::size_t>(r * stride + c)]; }
  Matrix<float> View(const Tile& tile) { return {numbers.data(), tile.rows.size(), tile.keys.size(), stride}; }

  std::int64_t stride;
  std::vector<float> numbers;
};

// Applies to the tile and compares every element, the gaps too.
void ExpectApplied(const MaskCase& one, const MaskRules& rules, const Tile& tile) {
  Scores before(tile);
  Scores after(tile);
  ASSERT_TRUE(rules.Apply(tile, after.View(tile)));
  for (std::int64_t r = 0; r < tile.rows.size(); ++r) {
    for (std::int64_t c = 0; c < tile.keys.size(); ++c) {
      const float bias = one.Bias(tile.batch, tile.head, tile.rows.begin + r, tile.keys.begin + c);
      ASSERT_EQ(after.At(r, c), before.At(r, c) + bias) << "row " << r << " key " << c;
    }
    for (std::int64_t c = tile.keys.size(); c < after.stride; ++c) ASSERT_EQ(after.At(r, c), kUntouched);
  }
}

// The whole grid of every batch and head, and tiles that begin and end inside of it.
void ExpectAppliedEverywhere(const MaskCase& one) {
  SCOPED_TRACE(one.Describe());
  const MaskRules rules(one.Spec(), one.View());
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t h = 0; h < 2; ++h) {
      ExpectApplied(one, rules, {b, h, {0, one.tq}, {0, one.tk}});
      ExpectApplied(one, rules, {b, h, {one.tq / 2, one.tq}, {one.tk / 2, one.tk}});
      ExpectApplied(one, rules, {b, h, {one.tq - 1, one.tq}, {one.tk - 1, one.tk}});
      ExpectApplied(one, rules, {b, h, {0, 1}, {0, (one.tk + 1) / 2}});
    }
  }
}

TEST(Apply, ForbidsByTheRulesAlone) {
  for (const auto& [tq, tk] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 7}, {7, 3}, {17, 33}}) {
    for (const MaskCase& one : RuleCases(tq, tk)) ExpectAppliedEverywhere(one);
  }
}

TEST(Apply, ForbidsByWindowsAndSegments) {
  for (const auto& [tq, tk] : {std::pair<std::int64_t, std::int64_t>{1, 2}, {3, 7}, {7, 3}, {17, 33}}) {
    for (const MaskCase& one : WindowAndSegmentCases(tq, tk)) ExpectAppliedEverywhere(one);
  }
}

TEST(Apply, AddsTensorsOfEveryKindAndShape) {
  for (const auto& [tq, tk] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 7}, {4, 18}}) {
    for (const TensorKind kind : kKinds) {
      std::uint32_t seed = 1;
      for (const Shape& shape : TensorShapes(tq, tk)) {
        MaskCase one;
        one.tq = tq;
        one.tk = tk;
        one.kind = kind;
        one.shape = shape;
        one.Fill(seed++);
        ExpectAppliedEverywhere(one);
      }
    }
  }
}

TEST(Apply, HoldsAllRulesTogether) {
  for (const TensorKind kind : kKinds) {
    std::uint32_t seed = 100;
    for (MaskCase one : RuleCases(5, 7)) {
      for (const Shape& shape : {Shape{7}, Shape{4}, Shape{5, 6}, Shape{2, 1, 7}, Shape{2, 2, 5, 7}}) {
        one.kind = kind;
        one.shape = shape;
        one.Fill(seed++);
        ExpectAppliedEverywhere(one);
      }
    }
  }
}

// A forbidden pair is selected away, never multiplied or added: what its score was does not matter.
TEST(Apply, LeavesNothingOfANonFiniteScoreThatIsForbidden) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const TensorKind kind : kKinds) {
    MaskCase one;
    one.kind = kind;
    one.shape = {5, 6};  // key 6 is forbidden by the last axis
    one.causal = CausalAlignment::kTopLeft;
    one.Fill(7);
    const MaskRules rules(one.Spec(), one.View());
    const Tile tile{0, 0, {0, 5}, {0, 7}};
    int forbidden = 0;
    for (const float score : {nan, infinity, -infinity}) {
      Scores scores(tile);
      for (std::int64_t i = 0; i < 5; ++i) {
        for (std::int64_t j = 0; j < 7; ++j) scores.At(i, j) = score;
      }
      ASSERT_EQ(rules.Apply(tile, scores.View(tile)), one.kind == TensorKind::kBool);
      for (std::int64_t i = 0; i < 5; ++i) {
        for (std::int64_t j = 0; j < 7; ++j) {
          if (one.Bias(0, 0, i, j) == kForbidden) {
            ASSERT_EQ(scores.At(i, j), -infinity) << "row " << i << " key " << j;
            ++forbidden;
          } else {
            ASSERT_EQ(std::bit_cast<std::uint32_t>(scores.At(i, j)), std::bit_cast<std::uint32_t>(score));
          }
        }
      }
    }
    EXPECT_GT(forbidden, 3 * 15);  // more than the upper triangle and the short axis
  }
}

TEST(Bias, IsWhatApplyAddsForEveryPair) {
  for (const TensorKind kind : kKinds) {
    std::uint32_t seed = 500;
    for (MaskCase one : RuleCases(4, 6)) {
      one.kind = kind;
      one.shape = seed % 2 == 0 ? Shape{2, 2, 4, 5} : Shape{2, 1, 6};
      one.Fill(seed++);
      SCOPED_TRACE(one.Describe());
      const MaskRules rules(one.Spec(), one.View());
      for (std::int64_t pair = 0; pair < 2 * 2 * 4 * 6; ++pair) {
        const Shape at = UnflattenIndex(pair, {2, 2, 4, 6});
        ASSERT_EQ(rules.Bias(at[0], at[1], at[2], at[3]), one.Bias(at[0], at[1], at[2], at[3])) << ToString(at);
      }
    }
  }
}

TEST(Bias, IsZeroOrForbiddenWithoutATensor) {
  for (const MaskCase& one : RuleCases(3, 7)) {
    SCOPED_TRACE(one.Describe());
    const MaskRules rules(one.Spec());
    for (std::int64_t i = 0; i < 3; ++i) {
      for (std::int64_t j = 0; j < 7; ++j) {
        ASSERT_EQ(rules.Bias(1, 0, i, j), one.RulesAllow(1, i, j) ? 0.0 : static_cast<double>(kForbidden));
      }
    }
  }
}

// A plan is made before the tensor's bytes are there.
TEST(Bias, KnowsTheRulesWithoutTheTensorsBytes) {
  MaskCase one;
  one.kind = TensorKind::kF32;
  one.shape = {5, 4};
  const MaskRules rules(one.Spec());
  EXPECT_EQ(rules.Bias(0, 0, 0, 3), 0);
  EXPECT_EQ(rules.Bias(0, 0, 0, 4), kForbidden);
}

}  // namespace
}  // namespace headlight
