// What the rules say of tiles and rows, against a definition of their own by brute force.
#include "server/masks/rules.h"

#include <gtest/gtest.h>

#include "tests/masks/cases.h"

namespace headlight {
namespace {

constexpr std::pair<std::int64_t, std::int64_t> kSizes[] = {{1, 1}, {1, 6}, {5, 1}, {2, 2}, {3, 7}, {6, 5}, {4, 4}};

// Calls f with every tile of rows x keys that is not empty in itself.
template <typename F>
void ForTiles(const MaskCase& one, F f) {
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t r0 = 0; r0 < one.tq; ++r0) {
      for (std::int64_t r1 = r0 + 1; r1 <= one.tq; ++r1) {
        for (std::int64_t k0 = 0; k0 < one.tk; ++k0) {
          for (std::int64_t k1 = k0 + 1; k1 <= one.tk; ++k1) f(Tile{b, 1, {r0, r1}, {k0, k1}});
        }
      }
    }
  }
}

std::int64_t CountAllowed(const MaskCase& one, const Tile& tile) {
  std::int64_t allowed = 0;
  for (std::int64_t i = tile.rows.begin; i < tile.rows.end; ++i) {
    for (std::int64_t j = tile.keys.begin; j < tile.keys.end; ++j) allowed += one.RulesAllow(tile.batch, i, j) ? 1 : 0;
  }
  return allowed;
}

TEST(Judge, KnowsEveryTileExactlyByTheRules) {
  int counts[3] = {};
  for (const auto& [tq, tk] : kSizes) {
    for (const MaskCase& one : RuleCases(tq, tk)) {
      SCOPED_TRACE(one.Describe());
      const MaskRules rules(one.Spec());
      ForTiles(one, [&](const Tile& tile) {
        const std::int64_t allowed = CountAllowed(one, tile);
        Verdict expected = Verdict::kPartial;
        if (allowed == 0) expected = Verdict::kEmpty;
        if (allowed == tile.rows.size() * tile.keys.size()) expected = Verdict::kFull;
        ++counts[static_cast<int>(expected)];
        ASSERT_EQ(rules.Judge(tile), expected) << tile.batch << " rows " << tile.rows.begin << ".." << tile.rows.end
                                               << " keys " << tile.keys.begin << ".." << tile.keys.end;
      });
    }
  }
  for (const int count : counts) EXPECT_GT(count, 1000);
}

TEST(Judge, CallsWhatATensorMayTouchPartial) {
  for (const auto& [tq, tk] : kSizes) {
    for (MaskCase one : RuleCases(tq, tk)) {
      for (const std::int64_t keys : {tk, tk / 2}) {
        if (keys < 1 || (keys == 1 && tk > 1)) continue;
        one.kind = TensorKind::kBool;
        one.shape = {keys};
        SCOPED_TRACE(one.Describe());
        const MaskRules rules(one.Spec());
        ForTiles(one, [&](const Tile& tile) {
          ASSERT_EQ(rules.Judge(tile), CountAllowed(one, tile) == 0 ? Verdict::kEmpty : Verdict::kPartial);
        });
      }
    }
  }
}

TEST(VisibleKeys, AreTheSmallestRangeOverTheRows) {
  for (const auto& [tq, tk] : kSizes) {
    for (MaskCase one : RuleCases(tq, tk)) {
      for (const bool with_tensor : {false, true}) {
        if (with_tensor && tk > 2) {
          one.kind = TensorKind::kF32;
          one.shape = {tk - 1};
        }
        SCOPED_TRACE(one.Describe());
        const MaskRules rules(one.Spec());
        ForTiles(one, [&](const Tile& tile) {
          std::int64_t end = 0;
          for (std::int64_t i = tile.rows.begin; i < tile.rows.end; ++i) {
            for (std::int64_t j = 0; j < one.tk; ++j) {
              if (one.RulesAllow(tile.batch, i, j)) end = std::max(end, j + 1);
            }
          }
          const Range seen = rules.VisibleKeys(tile.batch, tile.rows);
          ASSERT_EQ(seen.begin, 0);
          ASSERT_EQ(seen.end, end);
        });
      }
    }
  }
}

TEST(VisiblePairs, CountWhatTheRulesAllow) {
  for (const auto& [tq, tk] : kSizes) {
    for (MaskCase one : RuleCases(tq, tk)) {
      for (const std::int64_t keys : {std::int64_t{0}, tk, tk - 1}) {  // 0: no tensor
        if (keys == 1 && tk > 1) continue;
        if (keys > 0) {
          one.kind = TensorKind::kBool;
          one.shape = {tq, keys};
        }
        SCOPED_TRACE(one.Describe());
        std::int64_t pairs = 0;
        for (std::int64_t b = 0; b < 2; ++b) pairs += CountAllowed(one, {b, 0, {0, tq}, {0, tk}});
        EXPECT_EQ(MaskRules(one.Spec()).VisiblePairs(), pairs);
      }
    }
  }
}

// 16,384 tokens a side in 64 batches: 2^34 pairs, half of them and the diagonal where causal.
TEST(VisiblePairs, DoNotOverflowAtTheLimits) {
  constexpr std::int64_t kTokens = 16384;
  ProblemRequest request = HeadMajorRequest({64, 1, 1, kTokens, kTokens, 1, 1});
  EXPECT_EQ(MaskRules(CheckProblem(request, Limits()).value()).VisiblePairs(), 64 * kTokens * kTokens);
  request.mask.causal = CausalForm{CausalAlignment::kTopLeft, {}};
  EXPECT_EQ(MaskRules(CheckProblem(request, Limits()).value()).VisiblePairs(), 64 * kTokens * (kTokens + 1) / 2);
}

TEST(Rules, SeeNothingWhereALengthIsZero) {
  MaskCase one;
  one.key_lengths = {0, 7};
  const MaskRules rules(one.Spec());
  EXPECT_EQ(rules.Judge({0, 0, {0, 5}, {0, 7}}), Verdict::kEmpty);
  EXPECT_EQ(rules.VisibleKeys(0, {0, 5}).size(), 0);
  EXPECT_EQ(rules.Judge({1, 0, {0, 5}, {0, 7}}), Verdict::kFull);
  EXPECT_EQ(rules.VisiblePairs(), 35);
}

// The paragraph of FlashAttention's documentation that everyone copies: Tq 2, Tk 5 and Tq 5, Tk 2, bottom-right.
TEST(Rules, AlignBottomRightAsFlashAttentionDrawsIt) {
  MaskCase wide;
  wide.tq = 2;
  wide.tk = 5;
  wide.causal = CausalAlignment::kBottomRight;
  const MaskRules rules(wide.Spec());
  EXPECT_EQ(rules.VisibleKeys(0, {0, 1}).end, 4);
  EXPECT_EQ(rules.VisibleKeys(0, {1, 2}).end, 5);
  MaskCase tall;
  tall.tq = 5;
  tall.tk = 2;
  tall.causal = CausalAlignment::kBottomRight;
  const MaskRules tall_rules(tall.Spec());
  const std::int64_t ends[] = {0, 0, 0, 1, 2};
  for (std::int64_t i = 0; i < 5; ++i) EXPECT_EQ(tall_rules.VisibleKeys(0, {i, i + 1}).end, ends[i]);
}

// Windows and segments: what is judged empty holds no pair, what is judged full nothing but; keys that can be seen lie
// within VisibleKeys; the pairs are counted.
TEST(Rules, HoldForWindowsAndSegments) {
  for (const auto& [tq, tk] : {std::pair<std::int64_t, std::int64_t>{1, 2}, {5, 7}, {9, 4}}) {
    for (const MaskCase& one : WindowAndSegmentCases(tq, tk)) {
      SCOPED_TRACE(one.Describe());
      const MaskRules rules(one.Spec());
      ForTiles(one, [&](const Tile& tile) {
        const std::int64_t allowed = CountAllowed(one, tile);
        const Verdict verdict = rules.Judge(tile);
        const std::int64_t all = tile.rows.size() * tile.keys.size();
        if (verdict == Verdict::kEmpty) {
          ASSERT_EQ(allowed, 0);
        }
        if (verdict == Verdict::kFull) {
          ASSERT_EQ(allowed, all);
        }
        // Segments may leave a full tile undecided; so may the corners of a window an empty one.
        if (!one.segments.has_value() && allowed == all) {
          ASSERT_EQ(verdict, Verdict::kFull);
        }
        const Range seen = rules.VisibleKeys(tile.batch, tile.rows);
        for (std::int64_t i = tile.rows.begin; i < tile.rows.end; ++i) {
          for (std::int64_t j = tile.keys.begin; j < tile.keys.end; ++j) {
            ASSERT_EQ(rules.Allows(tile.batch, 0, i, j), one.RulesAllow(tile.batch, i, j));
            ASSERT_TRUE(!one.RulesAllow(tile.batch, i, j) || (j >= seen.begin && j < seen.end));
          }
        }
      });
      std::int64_t pairs = 0;
      for (std::int64_t b = 0; b < 2; ++b) pairs += CountAllowed(one, {b, 0, {0, tq}, {0, tk}});
      EXPECT_EQ(rules.VisiblePairs(), pairs);
    }
  }
}

// A window of w keys of a long sequence costs its diagonal, not the square.
TEST(VisiblePairs, OfAWindowGrowWithTheTokens) {
  ProblemRequest request = HeadMajorRequest({1, 1, 1, 16384, 16384, 1, 1});
  request.mask.window = WindowForm{99, 0, {}, {}};
  EXPECT_EQ(MaskRules(CheckProblem(request, Limits()).value()).VisiblePairs(), 16384 * 100 - 99 * 100 / 2);
}

}  // namespace
}  // namespace headlight
