// The same request gives the same bits: with one thread or several, alone or in a batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "server/kernels/convert.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Problem;
using oracle::RunEngine;

std::vector<Problem> Problems() {
  Problem qkv;
  qkv.hq = 4;
  qkv.tq = 201;
  qkv.tk = 777;
  qkv.rank = 3;
  Problem embeddings;
  embeddings.hq = 4;
  embeddings.tq = embeddings.tk = 77;
  embeddings.e = 40;
  embeddings.eo = 300;
  embeddings.causal = CausalAlignment::kTopLeft;
  embeddings.position.kind = PositionKind::kRotary;
  Problem halves = qkv;
  halves.kind = TensorKind::kBF16;
  Problem windows = qkv;
  windows.window = WindowForm{90, 20, CausalAlignment::kBottomRight, {}};
  windows.softcap = 10;
  windows.sinks = {0, 1, -1, 2};
  windows.precision = ComputePrecision::kBFloat16;
  return {qkv, embeddings, halves, windows};
}

std::string BytesOf(const oracle::Bound& bound, Algorithm algorithm, int threads,
                    const oracle::ChangePlan& change = {}) {
  const auto ran = RunEngine(bound, algorithm, threads, change);
  EXPECT_TRUE(ran.ok()) << ran.status();
  return (*ran)->result.output.bytes;
}

// Everything that an answer carries, side by side.
std::string EverythingOf(const oracle::Bound& bound, Algorithm algorithm, int threads,
                         const oracle::ChangePlan& change = {}) {
  const auto ran = RunEngine(bound, algorithm, threads, change);
  EXPECT_TRUE(ran.ok()) << ran.status();
  std::string bytes =
      (*ran)->result.output.bytes + (*ran)->result.log_sum_exp.bytes + (*ran)->result.head_outputs.bytes;
  for (const auto& maps : (*ran)->maps) {
    for (const MapResult& map : maps) {
      bytes += map.weights.bytes;
      const auto* weights = reinterpret_cast<const char*>(map.top_keys.weights.data());
      bytes.append(weights, map.top_keys.weights.size() * sizeof(float));
    }
  }
  for (const HeadStatistics& head : (*ran)->statistics) {
    const double numbers[] = {head.mean_entropy,  head.mean_largest_weight, head.mean_distance, head.share_on_previous,
                              head.share_on_same, head.share_on_first,      head.largest_score};
    bytes.append(reinterpret_cast<const char*>(numbers), sizeof(numbers));
  }
  return bytes;
}

void AskForEverything(Problem& p) {
  p.outputs.log_sum_exp = p.outputs.head_outputs = p.outputs.head_statistics = true;
  p.outputs.maps.resize(4);
  p.outputs.maps[1].top_k = 5;
  p.outputs.maps[2].pooled = PooledForm{7, 9, PoolReducer::kSum};
  p.outputs.maps[3].column_sums = true;
}

TEST(SameBits, WhateverTheNumberOfThreads) {
  for (Problem p : Problems()) {
    SCOPED_TRACE(p.Describe());
    AskForEverything(p);
    const auto bound = Bind(p);
    for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
      const std::string one = EverythingOf(*bound, algorithm, 1);
      for (const int threads : {2, 3, 7}) {
        EXPECT_EQ(EverythingOf(*bound, algorithm, threads), one) << threads << " threads";
      }
    }
  }
}

// The control: a plan whose tiles follow the number of threads gives other bits, so the test above would see it.
TEST(SameBits, NotWhereTilesDependOnTheThreads) {
  for (const Problem& p : Problems()) {
    if (p.e != 0) continue;  // fewer keys than a tile has
    SCOPED_TRACE(p.Describe());
    const auto bound = Bind(p);
    const auto by_threads = [&bound](int threads) {
      return BytesOf(*bound, Algorithm::kFlash, threads,
                     [threads](ExecutionPlan& plan) { plan.tile.keys /= std::int64_t{1} << (threads - 1); });
    };
    EXPECT_NE(by_threads(1), by_threads(3));
  }
}

// A batch may have more keys than are packed; a call of the same rows alone has its tiles packed.
TEST(SameBits, WithPackedTilesOrWithout) {
  for (const std::int64_t head_size : {16, 64, 80, 128}) {
    for (const ComputePrecision precision : {ComputePrecision::kFloat32, ComputePrecision::kBFloat16}) {
      for (const int rank : {3, 4}) {
        Problem p;
        p.hq = 4;  // two heads meet each tile
        p.hkv = 2;
        p.rank = rank;
        p.precision = precision;
        p.d = p.dv = head_size;
        p.tq = 530;
        p.tk = 1100;
        p.causal = CausalAlignment::kBottomRight;
        SCOPED_TRACE(p.Describe());
        const auto bound = Bind(p);
        const std::string packed = BytesOf(*bound, Algorithm::kFlash, 2, [](const ExecutionPlan& plan) {
          EXPECT_EQ(plan.packs_key_tiles, GainsFromPacking());
        });
        const auto never = [](ExecutionPlan& plan) { plan.packs_key_tiles = plan.packs_value_tiles = false; };
        EXPECT_EQ(packed, BytesOf(*bound, Algorithm::kFlash, 1, never));
        EXPECT_EQ(packed, BytesOf(*bound, Algorithm::kFlash, 3));
      }
    }
  }
}

// A power of two changes exponents alone, whoever multiplies by it.
TEST(SameBits, WhereTheCallerScalesTheQueryByAPowerOfTwo) {
  constexpr std::int64_t kScaleExponent = 3;
  for (const TensorKind kind : {TensorKind::kF32, TensorKind::kBF16}) {
    for (const auto& [tq, tk] : {std::pair(37, 5), std::pair(530, 1100)}) {  // query rows beyond keys, and packed tiles
      Problem p;
      p.hq = 4;
      p.d = p.dv = 64;
      p.tq = tq;
      p.tk = tk;
      p.kind = kind;
      p.precision = ComputePrecision::kBFloat16;
      p.scale = std::ldexp(1.0, -kScaleExponent);
      SCOPED_TRACE(p.Describe());
      const auto by_engine = Bind(p);
      p.scale = 1;
      const auto by_caller = Bind(p);
      std::string& bytes = by_caller->query.bytes;
      std::vector<float> numbers(bytes.size() / (kind == TensorKind::kBF16 ? 2 : 4));
      WidenRow(kind, reinterpret_cast<const std::byte*>(bytes.data()), numbers.data(),
               static_cast<std::int64_t>(numbers.size()));
      for (float& number : numbers) number = std::ldexp(number, -kScaleExponent);
      NarrowRow(kind, numbers.data(), reinterpret_cast<std::byte*>(bytes.data()),
                static_cast<std::int64_t>(numbers.size()));
      for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
        EXPECT_TRUE(BytesOf(*by_engine, algorithm, 2) == BytesOf(*by_caller, algorithm, 2));
      }
    }
  }
}

// Rows that products do not take as they come, in batches of which some have them made at once and some tile by tile.
TEST(SameBits, WhereKeysAreConvertedAtOnceOrByTile) {
  struct Row {
    TensorKind kind;
    ComputePrecision precision;
    bool rotary;
  };
  for (const Row& row : {Row{TensorKind::kF16, ComputePrecision::kFloat32, false},
                         Row{TensorKind::kBF16, ComputePrecision::kFloat32, false},
                         Row{TensorKind::kF32, ComputePrecision::kFloat32, true},
                         Row{TensorKind::kF32, ComputePrecision::kBFloat16, false}}) {
    Problem p;
    p.hq = p.hkv = 2;
    p.d = p.dv = 80;
    p.tq = 512;  // enough for tiles to be packed
    p.tk = 1111;
    p.kind = row.kind;
    p.precision = row.precision;
    if (row.rotary) {
      p.position.kind = PositionKind::kRotary;
      p.position.layout = ChannelLayout::kHalves;
      p.position.query_offset = 0;
    }
    // One more than is made at once: each head has K and V of tk rows of d in float32.
    p.b = kMaxPackedBytes / (2 * p.hkv * p.tk * p.d * 4) + 1;
    if (row.rotary || row.precision == ComputePrecision::kBFloat16) p.b *= 2;
    SCOPED_TRACE(p.Describe());
    const auto bound = Bind(p);
    const auto by_tile = [](const ExecutionPlan& plan) { EXPECT_FALSE(plan.packs || plan.packs_key_tiles); };
    const std::string all = BytesOf(*bound, Algorithm::kFlash, 2, by_tile);
    Problem last = p;
    last.b = 1;
    const auto alone = Bind(last);
    const auto take_last = [&p](const OwnedTensor& from, OwnedTensor& to) {
      const std::size_t bytes = to.bytes.size();
      std::copy_n(from.bytes.end() - static_cast<std::ptrdiff_t>(bytes), bytes, to.bytes.begin());
    };
    take_last(bound->query, alone->query);
    take_last(bound->key, alone->key);
    take_last(bound->value, alone->value);
    const std::string one = BytesOf(*alone, Algorithm::kFlash, 1);
    EXPECT_TRUE(one == all.substr(all.size() - one.size()));
  }
}

// Sweeps show tiles in which keys end, and raw scores of keys beyond their end: such a tile is never a packed one.
TEST(SameBits, OfMapsWhereKeysEndWithinATile) {
  for (const MapStage stage : {MapStage::kScaled, MapStage::kSoftcapped, MapStage::kBiased, MapStage::kWeights}) {
    for (const bool halves : {false, true}) {
      Problem p;
      p.b = 2;
      p.hq = 4;
      p.d = p.dv = 64;
      p.precision = halves ? ComputePrecision::kBFloat16 : ComputePrecision::kFloat32;
      p.tq = 1030;
      p.tk = 2100;
      p.key_lengths = {1700, 100};
      AskForEverything(p);
      for (MapForm& map : p.outputs.maps) {
        map.heads = {3};
        map.rows = {{0, 300}};
        map.stage = map.top_k.has_value() ? MapStage::kWeights : stage;
      }
      SCOPED_TRACE(p.Describe());
      const auto bound = Bind(p);
      const auto never = [](ExecutionPlan& plan) { plan.packs_key_tiles = plan.packs_value_tiles = false; };
      const auto packs = [](const ExecutionPlan& plan) { EXPECT_EQ(plan.packs_key_tiles, GainsFromPacking()); };
      const std::string packed = EverythingOf(*bound, Algorithm::kFlash, 2, packs);
      EXPECT_TRUE(packed == EverythingOf(*bound, Algorithm::kFlash, 2, never));  // too much to be printed
    }
  }
}

TEST(SameBits, AloneOrInABatch) {
  for (Problem p : Problems()) {
    SCOPED_TRACE(p.Describe());
    p.b = 3;
    const auto batch = Bind(p);
    p.b = 1;
    for (std::size_t b = 0; b < 3; ++b) {
      const auto alone = Bind(p);
      const auto take = [b](const OwnedTensor& from, OwnedTensor& to) {
        to.bytes.assign(from.bytes, b * to.bytes.size(), to.bytes.size());
      };
      take(batch->query, alone->query);
      take(batch->key, alone->key);
      take(batch->value, alone->value);
      take(batch->embeddings, alone->embeddings);
      for (auto pair : {std::pair(&batch->wq, &alone->wq), std::pair(&batch->wk, &alone->wk),
                        std::pair(&batch->wv, &alone->wv), std::pair(&batch->wo, &alone->wo)}) {
        pair.second->bytes = pair.first->bytes;
      }
      // The views were made when the strings were; assigning may have moved short ones.
      alone->data.query = alone->query.view();
      alone->data.key = alone->key.view();
      alone->data.value = alone->value.view();
      alone->data.embeddings = alone->embeddings.view();
      if (p.e != 0) {
        alone->data.layer.query = alone->wq.view();
        alone->data.layer.key = alone->wk.view();
        alone->data.layer.value = alone->wv.view();
        alone->data.layer.output = alone->wo.view();
      }
      for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
        const std::string whole = BytesOf(*batch, algorithm, 2);
        const std::string one = BytesOf(*alone, algorithm, 2);
        EXPECT_EQ(whole.substr(b * one.size(), one.size()), one) << "batch " << b;
      }
    }
  }
}

}  // namespace
}  // namespace headlight
