// What must hold of attention whatever the numbers are. Each property is checked with both algorithms.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "server/plan/planner.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Problem;
using oracle::RunEngine;

constexpr Algorithm kBoth[] = {Algorithm::kNaive, Algorithm::kFlash};

std::vector<float> OutputOf(const oracle::Bound& bound, Algorithm algorithm) {
  const auto ran = RunEngine(bound, algorithm);
  EXPECT_TRUE(ran.ok()) << ran.status();
  return oracle::Floats((*ran)->result.output);
}

void ExpectNear(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(oracle::Compare(got, std::vector<double>(want.begin(), want.end())), "");
}

// Moves rows of `width` numbers: row i of the result is row order[i].
std::vector<float> Permuted(const std::vector<float>& rows, const std::vector<std::size_t>& order, std::size_t width) {
  std::vector<float> out;
  for (const std::size_t from : order) {
    out.insert(out.end(), rows.begin() + static_cast<std::ptrdiff_t>(from * width),
               rows.begin() + static_cast<std::ptrdiff_t>((from + 1) * width));
  }
  return out;
}

TEST(Property, WithoutPositionsAPermutationOfTheTokensPermutesTheOutput) {
  Problem p;
  p.tq = p.tk = 150;
  p.e = 24;
  p.eo = 24;
  std::vector<std::size_t> order(150);
  std::iota(order.begin(), order.end(), 0);
  std::reverse(order.begin() + 3, order.end());
  std::rotate(order.begin(), order.begin() + 40, order.end());
  const auto plain = Bind(p);
  const auto moved = Bind(p);
  const std::vector<float> rows = Permuted(oracle::Floats(plain->embeddings), order, 24);
  std::copy(rows.begin(), rows.end(), moved->embeddings.floats());
  for (const Algorithm algorithm : kBoth) {
    ExpectNear(OutputOf(*moved, algorithm), Permuted(OutputOf(*plain, algorithm), order, 24));
  }
}

TEST(Property, WithPositionsItDoesNot) {
  Problem p;
  p.e = 24;
  p.position.kind = PositionKind::kSinusoidal;
  p.position.layout = ChannelLayout::kInterleaved;
  const auto plain = Bind(p);
  const auto moved = Bind(p);
  std::vector<std::size_t> order(17);
  std::iota(order.rbegin(), order.rend(), 0);
  const std::vector<float> rows = Permuted(oracle::Floats(plain->embeddings), order, 24);
  std::copy(rows.begin(), rows.end(), moved->embeddings.floats());
  const std::vector<float> got = OutputOf(*moved, Algorithm::kFlash);
  const std::vector<float> want = Permuted(OutputOf(*plain, Algorithm::kFlash), order, 32);
  EXPECT_NE(oracle::Compare(got, std::vector<double>(want.begin(), want.end())), "");
}

TEST(Property, WithCausalMaskingTheFutureChangesNothing) {
  Problem p;
  p.tq = p.tk = 300;
  p.rank = 3;
  p.causal = CausalAlignment::kTopLeft;
  const auto before = Bind(p);
  const auto after = Bind(p);
  constexpr std::int64_t kFrom = 133;
  const std::size_t width = 2 * 16;
  for (OwnedTensor* tensor : {&after->query, &after->key, &after->value}) {
    for (std::size_t i = kFrom * width; i < 300 * width; ++i) tensor->floats()[i] *= -3;
  }
  for (const Algorithm algorithm : kBoth) {
    std::vector<float> a = OutputOf(*before, algorithm);
    std::vector<float> b = OutputOf(*after, algorithm);
    EXPECT_NE(a, b);
    a.resize(kFrom * width);
    b.resize(kFrom * width);
    EXPECT_EQ(a, b) << "to the last bit";
  }
}

TEST(Property, RotaryScoresDependOnTheDistanceAlone) {
  for (const ChannelLayout layout : {ChannelLayout::kHalves, ChannelLayout::kInterleaved}) {
    Problem p;
    p.position.kind = PositionKind::kRotary;
    p.position.layout = layout;
    p.position.query_offset = 5;
    p.position.key_offset = 0;
    Problem shifted = p;
    shifted.position.query_offset = 5 + 1000;
    shifted.position.key_offset = 1000;
    Problem other = p;
    other.position.query_offset = 6;
    for (const Algorithm algorithm : kBoth) {
      const std::vector<float> here = OutputOf(*Bind(p), algorithm);
      const std::vector<float> there = OutputOf(*Bind(shifted), algorithm);
      for (std::size_t i = 0; i < here.size(); ++i) ASSERT_NEAR(here[i], there[i], 1e-4);
      EXPECT_NE(oracle::Compare(OutputOf(*Bind(other), algorithm), std::vector<double>(here.begin(), here.end())), "");
    }
  }
}

TEST(Property, EightHeadsOf64CostAsMuchAsOneHeadOf512) {
  std::int64_t flops[2] = {};
  std::int64_t attention[2] = {};
  for (const int i : {0, 1}) {
    Problem p;
    p.hq = p.hkv = i == 0 ? 8 : 1;
    p.d = p.dv = i == 0 ? 64 : 512;
    p.tq = p.tk = 30;
    p.e = 512;
    p.eo = 512;
    const Limits limits;
    const auto spec = CheckProblem(Bind(p)->request, limits);
    ASSERT_TRUE(spec.ok());
    const auto plan = MakePlan(*spec, limits, {MultipliesBF16(), GainsFromPacking()});
    ASSERT_TRUE(plan.ok());
    flops[i] = plan->flops;
    attention[i] = plan->flops - ProjectionFlops(*spec);
  }
  EXPECT_EQ(flops[0], flops[1]);
  EXPECT_EQ(attention[0], 2 * 30 * 30 * 8 * (64 + 64));
}

TEST(Property, AFullyMaskedRowGivesZerosAndMinusInfinity) {
  Problem p;
  p.tq = 130;
  p.mask_kind = TensorKind::kBool;
  p.mask_shape = {130, 17};
  p.mask.assign(130 * 17, 1);
  for (const std::int64_t row : {0, 64, 129}) std::fill_n(p.mask.begin() + row * 17, 17, 0.0F);
  p.outputs.log_sum_exp = true;
  const auto bound = Bind(p);
  for (const Algorithm algorithm : kBoth) {
    const auto ran = RunEngine(*bound, algorithm);
    ASSERT_TRUE(ran.ok());
    for (std::int64_t h = 0; h < 2; ++h) {
      for (std::int64_t row = 0; row < 130; ++row) {
        const bool empty = row == 0 || row == 64 || row == 129;
        const float* out = (*ran)->result.output.floats() + (h * 130 + row) * 16;
        EXPECT_EQ(std::all_of(out, out + 16, [](float x) { return x == 0; }), empty) << row;
        EXPECT_EQ((*ran)->result.log_sum_exp.floats()[h * 130 + row] == -INFINITY, empty) << row;
      }
    }
  }
}

TEST(Property, OneVisibleKeyCopiesItsValue) {
  Problem p;
  p.tq = 20;
  p.tk = 600;
  p.mask_kind = TensorKind::kBool;
  p.mask_shape = {600};
  p.mask.assign(600, 0);
  p.mask[517] = 1;
  const auto bound = Bind(p);
  for (const Algorithm algorithm : kBoth) {
    const std::vector<float> out = OutputOf(*bound, algorithm);
    for (std::size_t row = 0; row < 2 * 20; ++row) {
      const float* value = bound->value.floats() + (row / 20 * 600 + 517) * 16;
      EXPECT_TRUE(std::equal(value, value + 16, out.begin() + static_cast<std::ptrdiff_t>(row * 16))) << row;
    }
  }
}

// More cells than one sweep makes, and rows that end in more than one piece.
TEST(Property, PooledIntoACellForEachPairItIsTheFullMap) {
  for (const PoolReducer reducer : {PoolReducer::kMax, PoolReducer::kMean, PoolReducer::kSum}) {
    Problem p;
    p.tq = 100;
    p.tk = 1100;
    p.causal = CausalAlignment::kBottomRight;
    p.outputs.maps.resize(2);
    p.outputs.maps[1].pooled = PooledForm{p.tq, p.tk, reducer};
    const auto bound = Bind(p);
    for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
      const auto ran = RunEngine(*bound, algorithm);
      ASSERT_TRUE(ran.ok()) << ran.status();
      for (std::size_t i = 0; i < (*ran)->maps[0].size(); ++i) {
        std::vector<float> pooled = oracle::Floats((*ran)->maps[1][i].weights);
        const std::vector<float> full = oracle::Floats((*ran)->maps[0][i].weights);
        EXPECT_EQ(oracle::Compare(pooled, {full.begin(), full.end()}), "");
      }
    }
  }
}

TEST(Property, PartsOfTheKeysMergeToTheWhole) {
  Problem p;
  p.tk = 700;
  p.outputs.log_sum_exp = true;
  const auto whole = RunEngine(*Bind(p), Algorithm::kFlash);
  ASSERT_TRUE(whole.ok());
  Problem parts[2] = {p, p};
  for (const int i : {0, 1}) {
    parts[i].mask_kind = TensorKind::kBool;
    parts[i].mask_shape = {700};
    parts[i].mask.assign(700, static_cast<float>(i));
    std::fill_n(parts[i].mask.begin(), 300, static_cast<float>(1 - i));
  }
  const auto a = RunEngine(*Bind(parts[0]), Algorithm::kFlash);
  const auto b = RunEngine(*Bind(parts[1]), Algorithm::kNaive);
  ASSERT_TRUE(a.ok() && b.ok());
  std::vector<float> merged;
  for (std::size_t i = 0; i < 2 * 17 * 16; ++i) {
    const double la = (*a)->result.log_sum_exp.floats()[i / 16];
    const double lb = (*b)->result.log_sum_exp.floats()[i / 16];
    const double l = std::max(la, lb) + std::log1p(std::exp(-std::fabs(la - lb)));
    merged.push_back(static_cast<float>(std::exp(la - l) * (*a)->result.output.floats()[i] +
                                        std::exp(lb - l) * (*b)->result.output.floats()[i]));
  }
  ExpectNear(merged, oracle::Floats((*whole)->result.output));
}

}  // namespace
}  // namespace headlight
