// Naive, flash and the double reference agree, over sizes derived from the tiles.
#include "server/engine/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "server/kernels/matmul.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Bound;
using oracle::Compare;
using oracle::Exact;
using oracle::Floats;
using oracle::Problem;
using oracle::RunEngine;
using oracle::Solve;

// Runs both algorithms and holds output, log-sum-exp and head outputs against the oracle.
void ExpectExact(Problem p) {
  SCOPED_TRACE(p.Describe());
  p.outputs.log_sum_exp = true;
  p.outputs.head_outputs = true;
  const std::unique_ptr<Bound> bound = Bind(p);
  const Exact exact = Solve(*bound);
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    SCOPED_TRACE(std::string(NameOf(algorithm)));
    const auto ran = RunEngine(*bound, algorithm);
    ASSERT_TRUE(ran.ok()) << ran.status();
    const AttentionResult& result = (*ran)->result;
    EXPECT_EQ(Compare(Floats(result.output), exact.output, p.kind), "");
    EXPECT_EQ(Compare(Floats(result.head_outputs), exact.heads, p.kind), "");
    EXPECT_EQ(Compare(Floats(result.log_sum_exp), exact.log_sum_exp), "");
  }
}

// Tile heights and widths that the planner's table gives for D 16: 64 x 512, causal 64 x 256.
TEST(Attention, AgreesOverSizesAroundTheTiles) {
  for (const std::int64_t tq : {1, 2, 15, 16, 17, 63, 64, 65, 130}) {
    for (const std::int64_t tk : {1, 16, 17, 33, 255, 256, 257, 511, 512, 513, 1030}) {
      Problem p;
      p.tq = tq;
      p.tk = tk;
      ExpectExact(p);
      p.causal = CausalAlignment::kBottomRight;
      ExpectExact(p);
    }
  }
}

// However far the nearest key is that a row may see: weights depend on differences alone, and the log-sum-exp on all.
TEST(Attention, AlibiKeepsItsDigitsFarAway) {
  Problem p;
  p.tk = 600;
  p.position.kind = PositionKind::kAlibi;
  p.position.slopes = {0.5F, 0.0625F};
  p.sinks = {1.5F, -200.0F};
  for (const std::int64_t offset : {2048, 100'000, 1'000'000'000}) {
    p.position.query_offset = offset;
    ExpectExact(p);
    p.position.query_offset = 0;
    p.position.key_offset = offset;
    ExpectExact(p);
    p.position.key_offset = 0;
  }
  // A hole in the mask hides what is near.
  p.position.query_offset = 599;
  p.mask_kind = TensorKind::kBool;
  p.mask_shape = {600};
  p.mask.assign(600, 0.0F);
  std::fill_n(p.mask.begin(), 40, 1.0F);
  ExpectExact(p);
  p.position.slopes = {-0.5F, -0.25F};  // the farthest counts most
  ExpectExact(p);
}

// Many rows meet each key: full tiles are packed, the tail is not.
TEST(Attention, PackedTilesChangeNothingButTheTime) {
  for (const bool causal : {false, true}) {
    for (const ComputePrecision precision : {ComputePrecision::kFloat32, ComputePrecision::kBFloat16}) {
      Problem p;
      p.b = 2;
      p.hq = 4;
      p.hkv = 2;
      p.d = p.dv = 32;
      p.tq = 530;
      p.tk = 1100;
      p.key_lengths = {1100, 700};
      if (causal) p.causal = CausalAlignment::kBottomRight;
      p.precision = precision;
      SCOPED_TRACE(p.Describe());
      const std::unique_ptr<Bound> bound = Bind(p);
      const bool bf16 = precision == ComputePrecision::kBFloat16;
      const auto packed = RunEngine(*bound, Algorithm::kFlash, 2, [bf16](ExecutionPlan& plan) {
        EXPECT_EQ(plan.packs_key_tiles, GainsFromPacking());
        EXPECT_EQ(plan.packs_value_tiles, GainsFromPacking() && bf16 && MultipliesBF16());
      });
      ASSERT_TRUE(packed.ok()) << packed.status();
      EXPECT_EQ((*packed)->record.packed_bytes, (*packed)->plan.bytes.packed);
      const auto plain = RunEngine(*bound, Algorithm::kFlash, 2,
                                   [](ExecutionPlan& plan) { plan.packs_key_tiles = plan.packs_value_tiles = false; });
      ASSERT_TRUE(plain.ok()) << plain.status();
      const std::vector<float> want = Floats((*plain)->result.output);
      EXPECT_EQ(Compare(Floats((*packed)->result.output), {want.begin(), want.end()}, TensorKind::kF32), "");
      if (!bf16) ExpectExact(p);
    }
  }
}

TEST(Attention, AgreesForHeadSizesAroundTheLanes) {
  for (const std::int64_t d : {1, 3, 8, 15, 16, 17, 64, 80, 128, 512}) {
    for (const std::int64_t dv : {1, 16, 33, 128, 512}) {
      Problem p;
      p.tq = 19;
      p.tk = 70;
      p.d = d;
      p.dv = dv;
      ExpectExact(p);
    }
  }
}

TEST(Attention, GroupedAndMultiQueryHeadsReadTheirOwnKeys) {
  for (const std::int64_t hkv : {1, 2, 3, 6}) {
    for (const int rank : {4, 3}) {
      Problem p;
      p.b = 2;
      p.hq = 6;
      p.hkv = hkv;
      p.rank = rank;
      p.tk = 40;
      ExpectExact(p);
    }
  }
  Problem flat;
  flat.rank = 2;
  flat.hq = 4;
  flat.hkv = 2;
  ExpectExact(flat);
}

TEST(Attention, EveryCausalAlignmentSeesWhatItSays) {
  for (const std::int64_t tk : {5, 17, 40, 300}) {
    for (const CausalAlignment alignment : {CausalAlignment::kTopLeft, CausalAlignment::kBottomRight}) {
      Problem p;
      p.tk = tk;
      p.causal = alignment;
      ExpectExact(p);
    }
    for (const std::int64_t offset : {-300, -18, -3, 0, 7, 400}) {
      Problem p;
      p.tk = tk;
      p.causal = CausalAlignment::kExplicit;
      p.causal_offset = offset;
      ExpectExact(p);
    }
  }
}

TEST(Attention, KeyLengthsCutEachBatchByItself) {
  Problem p;
  p.b = 4;
  p.tk = 600;
  p.key_lengths = {0, 1, 511, 600};
  ExpectExact(p);
  p.causal = CausalAlignment::kBottomRight;
  ExpectExact(p);
}

TEST(Attention, MaskTensorsOfEveryShapeAndKindCompose) {
  const Shape shapes[] = {{70}, {60}, {19, 70}, {1, 70}, {2, 19, 70}, {2, 2, 19, 70}, {2, 1, 1, 70}, {1, 2, 19, 33}};
  for (const Shape& shape : shapes) {
    for (const TensorKind kind : {TensorKind::kBool, TensorKind::kF32}) {
      Problem p;
      p.b = 2;
      p.tq = 19;
      p.tk = 70;
      p.mask_kind = kind;
      p.mask_shape = shape;
      p.mask = oracle::Numbers(9, ElementCount(shape).value());
      for (float& x : p.mask) {
        if (kind == TensorKind::kBool) x = x > -0.5F ? 1 : 0;
        if (kind == TensorKind::kF32 && x < -1) x = -INFINITY;
      }
      ExpectExact(p);
      p.causal = CausalAlignment::kTopLeft;
      p.key_lengths = {70, 31};
      ExpectExact(p);
    }
  }
}

TEST(Attention, EveryPositionSchemeAgrees) {
  for (const ChannelLayout layout : {ChannelLayout::kHalves, ChannelLayout::kInterleaved}) {
    Problem rotary;
    rotary.tk = 40;
    rotary.position.kind = PositionKind::kRotary;
    rotary.position.layout = layout;
    rotary.position.query_offset = 23;
    rotary.position.key_offset = -5;
    ExpectExact(rotary);
    rotary.position.rotary_size = 6;
    rotary.position.base = 500;
    ExpectExact(rotary);
    rotary.kind = TensorKind::kBF16;
    ExpectExact(rotary);
    Problem sinusoidal;
    sinusoidal.e = 24;
    sinusoidal.position.kind = PositionKind::kSinusoidal;
    sinusoidal.position.layout = layout;
    sinusoidal.position.query_offset = 11;
    ExpectExact(sinusoidal);
  }
  Problem learned;
  learned.e = 24;
  learned.position.kind = PositionKind::kLearned;
  learned.position.query_offset = 2;
  ExpectExact(learned);
  Problem alibi;
  alibi.tk = 40;
  alibi.position.kind = PositionKind::kAlibi;
  alibi.position.slopes = {0.25F, 0.0625F};
  alibi.position.query_offset = 3;
  ExpectExact(alibi);
}

TEST(Attention, EmbeddingsThroughALayer) {
  for (const TensorKind kind : {TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16}) {
    for (const std::int64_t tokens : {1, 17, 64, 65, 130}) {
      Problem p;
      p.b = 2;
      p.hq = 4;
      p.hkv = 2;
      p.tq = tokens;
      p.tk = tokens;
      p.e = 40;
      p.dv = 24;
      p.kind = kind;
      ExpectExact(p);
      p.eo = 300;  // more than one block of columns
      p.biases = true;
      ExpectExact(p);
    }
  }
}

TEST(Attention, CrossAttentionThroughAContext) {
  Problem p;
  p.b = 2;
  p.tk = 33;
  p.e = 24;
  p.ec = 20;
  p.eo = 12;
  ExpectExact(p);
  p.position.kind = PositionKind::kRotary;
  p.position.layout = ChannelLayout::kInterleaved;
  p.position.query_offset = 4;
  ExpectExact(p);
  p.kind = TensorKind::kBF16;
  ExpectExact(p);
}

TEST(Attention, SixteenBitInputs) {
  for (const TensorKind kind : {TensorKind::kF16, TensorKind::kBF16}) {
    for (const int rank : {4, 3}) {
      Problem p;
      p.kind = kind;
      p.rank = rank;
      p.tq = 70;
      p.tk = 530;
      p.hq = 4;
      ExpectExact(p);
    }
  }
}

TEST(Attention, AnyFiniteScale) {
  for (const double scale : {0.0, -0.7, 3.0, 1e-30}) {
    Problem p;
    p.scale = scale;
    ExpectExact(p);
  }
}

// Finite numbers whose scores, projections or outputs are not: refused by name, never zeros or NaN.
TEST(Attention, WhatLeavesFloat32IsRefused) {
  const auto expect_refused = [](const Bound& bound, const std::string& what) {
    for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
      const auto ran = RunEngine(bound, algorithm);
      ASSERT_EQ(ran.status().code(), absl::StatusCode::kInvalidArgument) << what;
      EXPECT_NE(ran.status().message().find(what + " beyond float32 at"), std::string::npos) << ran.status();
    }
  };
  Problem p;
  p.tk = 300;
  auto bound = Bind(p);
  std::fill_n(bound->query.floats() + 5 * 16, 16, 1e25F);
  std::fill_n(bound->key.floats() + 290 * 16, 16, -1e25F);
  expect_refused(*bound, "a score");

  // The same pair where no row may see it is nobody's business.
  p.causal = CausalAlignment::kTopLeft;
  bound = Bind(p);
  std::fill_n(bound->query.floats() + 5 * 16, 16, 1e25F);
  std::fill_n(bound->key.floats() + 14 * 16, 16, -1e25F);
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    EXPECT_TRUE(RunEngine(*bound, algorithm).ok());
  }

  p.causal.reset();
  bound = Bind(p);
  std::fill_n(bound->value.floats(), 300 * 16, 3e38F);
  expect_refused(*bound, "a sum of weighted values");

  p.mask_kind = TensorKind::kF32;
  p.mask_shape = {300};
  p.mask.assign(300, -3.4e38F);
  p.scale = 1e37;
  expect_refused(*Bind(p), "a score with its mask");

  Problem projected;
  projected.e = 24;
  bound = Bind(projected);
  std::fill_n(bound->embeddings.floats() + 24, 24, 3e38F);
  expect_refused(*bound, "a projection");
}

// IEEE rules for what a row sees; what it does not see contributes nothing, not even 0 x NaN.
TEST(Attention, NonFiniteNumbersReachOnlyTheRowsThatSeeThem) {
  Problem p;
  p.tq = 20;
  p.tk = 20;
  p.hq = p.hkv = 1;
  p.causal = CausalAlignment::kTopLeft;
  p.allow_non_finite = true;
  p.outputs.log_sum_exp = p.outputs.head_statistics = true;
  p.outputs.maps.resize(1);
  const auto clean = Bind(p);
  const auto bound = Bind(p);
  bound->key.floats()[7 * 16 + 3] = NAN;          // the score of key 7 for rows from 7 on
  bound->value.floats()[12 * 16 + 5] = INFINITY;  // seen from row 12 on, where rows are NaN anyway
  const auto only_value = Bind(p);
  only_value->value.floats()[12 * 16 + 5] = INFINITY;
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    const auto want = RunEngine(*clean, algorithm);
    const auto ran = RunEngine(*bound, algorithm);
    const auto infinite = RunEngine(*only_value, algorithm);
    ASSERT_TRUE(want.ok() && ran.ok() && infinite.ok());
    for (std::int64_t row = 0; row < 20; ++row) {
      const float* out = (*ran)->result.output.floats() + row * 16;
      for (std::int64_t c = 0; c < 16; ++c) {
        ASSERT_EQ(std::isnan(out[c]), row >= 7) << row;
        const float with_infinity = (*infinite)->result.output.floats()[row * 16 + c];
        ASSERT_EQ(std::isinf(with_infinity), row >= 12 && c == 5) << row << " " << c;
        if (row < 7) {
          ASSERT_EQ(out[c], (*want)->result.output.floats()[row * 16 + c]);
        }
      }
      ASSERT_EQ(std::isnan((*ran)->result.log_sum_exp.floats()[row]), row >= 7);
      for (std::int64_t key = 0; key < 20; ++key) {
        const float weight = (*ran)->maps[0][0].weights.floats()[row * 20 + key];
        ASSERT_EQ(std::isnan(weight), row >= 7 && key <= row) << row << " " << key;
      }
    }
    EXPECT_TRUE(std::isnan((*ran)->statistics[0].largest_score));
    EXPECT_TRUE(std::isnan((*ran)->statistics[0].mean_entropy));
  }
}

TEST(Attention, ARowOfMinusInfinityIsARowThatSeesNoKey) {
  Problem p;
  p.hq = p.hkv = 1;
  p.tq = 1;
  p.tk = 3;
  p.d = 1;
  p.allow_non_finite = true;
  p.outputs.log_sum_exp = true;
  p.outputs.maps.resize(1);
  for (const bool sink : {false, true}) {
    if (sink) p.sinks = {0};
    const auto bound = Bind(p);
    bound->query.floats()[0] = 1;
    std::fill_n(bound->key.floats(), 3, -INFINITY);
    for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
      const auto ran = RunEngine(*bound, algorithm);
      ASSERT_TRUE(ran.ok());
      for (std::int64_t c = 0; c < 16; ++c) EXPECT_EQ((*ran)->result.output.floats()[c], 0);
      EXPECT_EQ((*ran)->result.log_sum_exp.floats()[0], -INFINITY);
      for (std::int64_t key = 0; key < 3; ++key) EXPECT_EQ((*ran)->maps[0][0].weights.floats()[key], 0);
    }
  }
}

// bfloat16 rounds what is multiplied: nearer to it than twice its own error, and not the float32 answer.
TEST(Attention, BFloat16ArithmeticRoundsWhatIsMultiplied) {
  Problem p;
  p.tq = 70;
  p.tk = 600;
  p.d = p.dv = 64;
  const Exact exact = Solve(*Bind(p));
  p.precision = ComputePrecision::kBFloat16;
  const auto bound = Bind(p);
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    const auto ran = RunEngine(*bound, algorithm);
    ASSERT_TRUE(ran.ok());
    const std::vector<float> got = Floats((*ran)->result.output);
    double worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::fabs(got[i] - exact.output[i]));
    EXPECT_GT(worst, 1e-4);
    EXPECT_LT(worst, 8e-3);
  }
}

// Two heads of one tile, of which the second is refused: the first is looked at twice.
TEST(Attention, MapsAreToldOfATileOnce) {
  Problem p;
  p.hq = 4;
  p.tq = 5;
  p.tk = 7;
  p.outputs.maps.resize(1);
  const auto bound = Bind(p);
  std::fill_n(bound->query.floats() + 5 * 16, 5 * 16, 1e25F);
  std::fill_n(bound->key.floats() + 6 * 16, 16, 1e25F);
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    EXPECT_EQ(RunEngine(*bound, algorithm).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

// Keys are projected, turned and only then rounded, each in its place.
TEST(Attention, BFloat16ArithmeticTurnsProjectedKeys) {
  Problem p;
  p.b = 2;
  p.tq = p.tk = 70;
  p.d = p.dv = 64;
  p.e = 32;
  p.position.kind = PositionKind::kRotary;
  p.position.layout = ChannelLayout::kHalves;
  const Exact exact = Solve(*Bind(p));
  p.precision = ComputePrecision::kBFloat16;
  const auto bound = Bind(p);
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    const auto ran = RunEngine(*bound, algorithm);
    ASSERT_TRUE(ran.ok()) << ran.status();
    const std::vector<float> got = Floats((*ran)->result.output);
    double worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::fabs(got[i] - exact.output[i]));
    EXPECT_GT(worst, 1e-4);
    EXPECT_LT(worst, 8e-3);
  }
}

}  // namespace
}  // namespace headlight
