// Weight maps are the same with either algorithm, and those of the oracle.
#include "server/analysis/maps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Bound;
using oracle::Exact;
using oracle::Problem;
using oracle::Ran;
using oracle::RunEngine;

constexpr Algorithm kBoth[] = {Algorithm::kNaive, Algorithm::kFlash};

// 2 batches, 4 heads, rows over three tiles, keys over three causal tiles.
Problem Wide() {
  Problem p;
  p.b = 2;
  p.hq = 4;
  p.tq = 140;
  p.tk = 600;
  p.causal = CausalAlignment::kBottomRight;
  p.key_lengths = {600, 100};  // the first 40 rows of batch 1 see nothing
  return p;
}

double WeightAt(const Problem& p, const Exact& exact, const MapResult& map, std::int64_t row, std::int64_t key) {
  return exact.weights[static_cast<std::size_t>(((map.batch * p.hq + map.head) * p.tq + row) * p.tk + key)];
}

void ExpectFullMap(const Problem& p, const Exact& exact, const MapResult& map, Range keys, double bound) {
  ASSERT_EQ(map.weights.shape, (Shape{map.rows.size(), keys.size()}));
  const std::vector<float> got = oracle::Floats(map.weights);
  for (std::int64_t row = map.rows.begin; row < map.rows.end; ++row) {
    for (std::int64_t key = keys.begin; key < keys.end; ++key) {
      const float weight = got[static_cast<std::size_t>((row - map.rows.begin) * keys.size() + key - keys.begin)];
      const double want = WeightAt(p, exact, map, row, key);
      ASSERT_NEAR(weight, want, 1e-5 + bound * want) << "row " << row << " key " << key;
    }
  }
}

TEST(FullMaps, AreTheOraclesWeightsForChosenBatchesHeadsRowsAndKeys) {
  Problem p = Wide();
  MapForm all;
  MapForm chosen;
  chosen.heads = {3, 1};
  chosen.batches = {1};
  chosen.rows = {{0, 1}, {60, 70}, {139, 140}};
  chosen.keys = Range{50, 300};
  p.outputs.maps = {all, chosen};
  const auto bound = Bind(p);
  const Exact exact = Solve(*bound);
  for (const Algorithm algorithm : kBoth) {
    const auto ran = RunEngine(*bound, algorithm);
    ASSERT_TRUE(ran.ok()) << ran.status();
    const std::vector<MapResult>& first = (*ran)->maps[0];
    ASSERT_EQ(first.size(), 8);
    for (const MapResult& map : first) ExpectFullMap(p, exact, map, {0, p.tk}, 1e-5);
    const std::vector<MapResult>& second = (*ran)->maps[1];
    ASSERT_EQ(second.size(), 6);
    EXPECT_EQ(second[0].head, 3) << "heads come in the order asked for";
    EXPECT_EQ(second[3].head, 1);
    EXPECT_EQ(second[4].rows.begin, 60);
    EXPECT_EQ(second[4].key_begin, 50);
    EXPECT_EQ(second[4].request_index, 1);
    for (const MapResult& map : second) ExpectFullMap(p, exact, map, {50, 300}, 1e-5);
  }
}

TEST(FullMaps, RowsThatSeeAnythingAddUpToOneAndOthersAreZero) {
  Problem p = Wide();
  p.outputs.maps = {MapForm()};
  const auto bound = Bind(p);
  for (const Algorithm algorithm : kBoth) {
    const auto ran = RunEngine(*bound, algorithm);
    ASSERT_TRUE(ran.ok());
    for (const MapResult& map : (*ran)->maps[0]) {
      for (std::int64_t row = 0; row < p.tq; ++row) {
        double sum = 0;
        for (std::int64_t key = 0; key < p.tk; ++key) sum += map.weights.floats()[row * p.tk + key];
        const bool empty = map.batch == 1 && row < 40;
        ASSERT_NEAR(sum, empty ? 0 : 1, empty ? 0 : 1e-5) << "row " << row;
      }
    }
  }
}

TEST(FullMaps, InSixteenBitsAreTheFloatOnesRounded) {
  for (const TensorKind kind : {TensorKind::kF16, TensorKind::kBF16}) {
    Problem p = Wide();
    p.outputs.maps = {MapForm()};
    p.outputs.kind = kind;
    const auto bound = Bind(p);
    const Exact exact = Solve(*bound);
    for (const Algorithm algorithm : kBoth) {
      const auto ran = RunEngine(*bound, algorithm);
      ASSERT_TRUE(ran.ok());
      for (const MapResult& map : (*ran)->maps[0]) {
        EXPECT_EQ(map.weights.kind, kind);
        EXPECT_EQ(static_cast<std::int64_t>(map.weights.bytes.size()), p.tq * p.tk * 2);
        ExpectFullMap(p, exact, map, {0, p.tk}, kind == TensorKind::kF16 ? 0x1p-11 : 0x1p-8);
      }
    }
  }
}

// The best k of a row by weight, ties to the lower key; forbidden keys left out.
std::vector<std::int64_t> BestKeys(const Problem& p, const Exact& exact, const MapResult& map, std::int64_t row,
                                   Range keys, std::int64_t k) {
  const std::size_t first = static_cast<std::size_t>(((map.batch * p.hq + map.head) * p.tq + row) * p.tk);
  std::vector<std::int64_t> best;
  for (std::int64_t key = keys.begin; key < keys.end; ++key) {
    if (std::isfinite(exact.scores[first + static_cast<std::size_t>(key)])) best.push_back(key);
  }
  std::stable_sort(best.begin(), best.end(), [&](std::int64_t a, std::int64_t b) {
    return exact.scores[first + static_cast<std::size_t>(a)] > exact.scores[first + static_cast<std::size_t>(b)];
  });
  best.resize(std::min(best.size(), static_cast<std::size_t>(k)));
  return best;
}

TEST(TopKeys, AreTheOraclesBestForEveryK) {
  for (const std::int64_t k : {1, 2, 7, 100, 600}) {
    Problem p = Wide();
    MapForm top;
    top.top_k = k;
    MapForm part = top;
    part.heads = {2};
    part.rows = {{30, 140}};
    part.keys = Range{40, 90};
    p.outputs.maps = {top, part};
    const auto bound = Bind(p);
    const Exact exact = Solve(*bound);
    for (const Algorithm algorithm : kBoth) {
      const auto ran = RunEngine(*bound, algorithm);
      ASSERT_TRUE(ran.ok());
      for (const std::size_t request : {0, 1}) {
        const Range keys = request == 0 ? Range{0, p.tk} : Range{40, 90};
        for (const MapResult& map : (*ran)->maps[request]) {
          for (std::int64_t row = map.rows.begin; row < map.rows.end; ++row) {
            const std::vector<std::int64_t> want = BestKeys(p, exact, map, row, keys, k);
            const auto r = static_cast<std::size_t>(row - map.rows.begin);
            ASSERT_EQ(map.top_keys.counts[r], want.size()) << "row " << row;
            for (std::size_t i = 0; i < want.size(); ++i) {
              const std::size_t at = r * static_cast<std::size_t>(map.top_keys.k) + i;
              const double weight = WeightAt(p, exact, map, row, want[i]);
              // Weights closer than float32 tells apart may change places.
              ASSERT_NEAR(map.top_keys.weights[at], weight, 1e-5 + 1e-5 * weight);
              const double own = WeightAt(p, exact, map, row, map.top_keys.keys[at]);
              ASSERT_NEAR(own, weight, 1e-6 + 1e-5 * weight) << "row " << row << " place " << i;
            }
          }
        }
      }
    }
  }
}

TEST(TopKeys, TiesGoToTheLowerKey) {
  Problem p;
  p.tq = 3;
  p.tk = 530;
  p.scale = 0;  // every score is the same
  MapForm top;
  top.top_k = 5;
  p.outputs.maps = {top};
  for (const Algorithm algorithm : kBoth) {
    const auto ran = RunEngine(*Bind(p), algorithm);
    ASSERT_TRUE(ran.ok());
    for (const MapResult& map : (*ran)->maps[0]) {
      EXPECT_EQ(map.top_keys.keys, (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4}));
      for (const float weight : map.top_keys.weights) EXPECT_NEAR(weight, 1.0 / 530, 1e-7);
    }
  }
}

TEST(Maps, DoNotChangeTheOutputByABit) {
  Problem p = Wide();
  const auto plain = RunEngine(*Bind(p), Algorithm::kFlash);
  MapForm top;
  top.top_k = 3;
  p.outputs.maps = {MapForm(), top};
  const auto mapped = RunEngine(*Bind(p), Algorithm::kFlash);
  ASSERT_TRUE(plain.ok() && mapped.ok());
  EXPECT_EQ((*plain)->result.output.bytes, (*mapped)->result.output.bytes);
  EXPECT_EQ((*plain)->record.scratch_bytes, (*mapped)->record.scratch_bytes) << "no grid for the sake of maps";
}

// Scores that differ and weights that do not: 0 all of them.
TEST(TopKeys, OrderEqualWeightsByKey) {
  Problem p;
  p.tk = 5;
  p.mask_kind = TensorKind::kF32;
  p.mask_shape = {5};
  p.mask = {0, -30000, -10000, -20000, 0};
  p.outputs.maps.resize(1);
  p.outputs.maps[0].top_k = 5;
  const auto bound = Bind(p);
  for (const Algorithm algorithm : kBoth) {
    const auto ran = RunEngine(*bound, algorithm);
    ASSERT_TRUE(ran.ok()) << ran.status();
    const TopKeys& top = (*ran)->maps[0][0].top_keys;
    for (std::size_t row = 0; row < 17; ++row) {
      const std::vector<std::uint32_t> last(top.keys.begin() + static_cast<std::ptrdiff_t>(row * 5 + 2),
                                            top.keys.begin() + static_cast<std::ptrdiff_t>(row * 5 + 5));
      EXPECT_EQ(last, (std::vector<std::uint32_t>{1, 2, 3}));
    }
  }
}

// Beside a score of -1e9 float32 has no room for the logarithm of 64 keys: the usual way to mask a padded row.
TEST(FullMap, AddsUpToOneWhateverIsAddedToItsScores) {
  for (const float level : {-1e3F, -1e6F, -1e9F, 1e9F}) {
    Problem p;
    p.tk = 64;
    p.mask_kind = TensorKind::kF32;
    p.mask_shape = {64};
    p.mask.assign(64, level);
    p.outputs.maps.resize(2);
    p.outputs.maps[1].top_k = 64;
    const auto bound = Bind(p);
    for (const Algorithm algorithm : kBoth) {
      const auto ran = RunEngine(*bound, algorithm);
      ASSERT_TRUE(ran.ok()) << ran.status();
      const MapResult& full = (*ran)->maps[0][0];
      const MapResult& top = (*ran)->maps[1][0];
      for (std::int64_t row = 0; row < p.tq; ++row) {
        double sum = 0;
        double top_sum = 0;
        for (std::int64_t key = 0; key < 64; ++key) {
          sum += full.weights.floats()[row * 64 + key];
          top_sum += top.top_keys.weights[static_cast<std::size_t>(row * 64 + key)];
        }
        ASSERT_NEAR(sum, 1, 1e-5) << level;
        ASSERT_NEAR(top_sum, 1, 1e-5) << level;
      }
    }
  }
}

// What a cell of a 6 x 5 pooled map must be, from the full map.
double CellOf(const MapResult& full, std::int64_t tokens, PoolReducer reducer, std::int64_t r, std::int64_t c) {
  double sum = 0;
  double most = 0;
  const Range rows{r * tokens / 6, (r + 1) * tokens / 6};
  const Range keys{c * tokens / 5, (c + 1) * tokens / 5};
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    for (std::int64_t key = keys.begin; key < keys.end; ++key) {
      const double weight = full.weights.floats()[row * tokens + key];
      sum += weight;
      most = std::max(most, weight);
    }
  }
  if (reducer == PoolReducer::kMax) return most;
  return reducer == PoolReducer::kMean ? sum / static_cast<double>(rows.size() * keys.size()) : sum;
}

// Most tiles have nothing to see, whole cells are 0, and so are whole columns.
TEST(Summaries, OfWhatMasksLeaveOutAreThoseOfTheFullMap) {
  constexpr std::int64_t kTokens = 1000;
  constexpr PoolReducer kReducers[] = {PoolReducer::kMax, PoolReducer::kMean, PoolReducer::kSum};
  Problem p;
  p.tq = p.tk = kTokens;
  p.causal = CausalAlignment::kTopLeft;
  p.window = WindowForm{20, {}, {}, {}};
  p.key_lengths = {700};
  p.outputs.maps.resize(5);
  for (std::size_t i = 0; i < 3; ++i) p.outputs.maps[i].pooled = PooledForm{6, 5, kReducers[i]};
  p.outputs.maps[3].column_sums = true;
  const auto bound = Bind(p);
  for (const Algorithm algorithm : kBoth) {
    const auto ran = RunEngine(*bound, algorithm);
    ASSERT_TRUE(ran.ok()) << ran.status();
    const MapResult& full = (*ran)->maps[4][0];
    for (std::size_t i = 0; i < 3; ++i) {
      const MapResult& pooled = (*ran)->maps[i][0];
      for (std::int64_t cell = 0; cell < 30; ++cell) {
        const double want = CellOf(full, kTokens, kReducers[i], cell / 5, cell % 5);
        EXPECT_NEAR(pooled.weights.floats()[cell], want, 1e-6 * want) << "reducer " << i << ", cell " << cell;
      }
    }
    for (std::int64_t key = 0; key < kTokens; ++key) {
      double sum = 0;
      for (std::int64_t row = 0; row < kTokens; ++row) sum += full.weights.floats()[row * kTokens + key];
      EXPECT_NEAR((*ran)->maps[3][0].weights.floats()[key], sum, 1e-6 * sum) << "key " << key;
    }
  }
}

}  // namespace
}  // namespace headlight
