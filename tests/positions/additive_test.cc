// Schemes that add: against the double reference and the formulas of the papers.
#include "server/positions/additive.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "server/base/half.h"
#include "server/kernels/reference/attention.h"

namespace headlight {
namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
constexpr float kGap = 4711.0F;

// Rows of small numbers with a gap after each.
struct Rows {
  Rows(std::int64_t count, std::int64_t width) : rows(count), cols(width), stride(width + 3) {
    numbers.assign(static_cast<std::size_t>(rows * stride), kGap);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) At(r, c) = static_cast<float>((r * 7 + c * 3) % 11) / 8;
    }
  }
  float& At(std::int64_t r, std::int64_t c) { return numbers[static_cast<std::size_t>(r * stride + c)]; }
  Matrix<float> View() { return {numbers.data(), rows, cols, stride}; }
  void ExpectGapsWhole() {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = cols; c < stride; ++c) ASSERT_EQ(At(r, c), kGap) << r;
    }
  }

  std::int64_t rows, cols, stride;
  std::vector<float> numbers;
};

PositionSpec Spec(PositionKind kind) {
  PositionSpec spec;
  spec.kind = kind;
  return spec;
}

TEST(AddPositions, AddsTheReferencesSinusoids) {
  for (const ChannelLayout layout : {ChannelLayout::kHalves, ChannelLayout::kInterleaved}) {
    for (const std::int64_t width : {2, 6, 16, 512}) {
      for (const std::int64_t first :
           {std::int64_t{0}, std::int64_t{3}, std::int64_t{-4}, std::int64_t{100000}, (std::int64_t{1} << 31) - 20}) {
        for (const double base : {10000.0, 2.0}) {
          PositionSpec spec = Spec(PositionKind::kSinusoidal);
          spec.layout = layout;
          spec.base = base;
          Rows x(9, width);
          Rows before = x;
          AddPositions(spec, {}, first, x.View());
          for (std::int64_t r = 0; r < x.rows; ++r) {
            std::vector<double> exact(static_cast<std::size_t>(width));
            for (std::int64_t c = 0; c < width; ++c) exact[static_cast<std::size_t>(c)] = before.At(r, c);
            reference::AddSinusoid(exact.data(), width, layout == ChannelLayout::kHalves, base, first + r);
            for (std::int64_t c = 0; c < width; ++c) {
              // The sinusoid is rounded, and the sum: each by half a unit of at most 4.
              ASSERT_NEAR(x.At(r, c), exact[static_cast<std::size_t>(c)], 2 * kEpsilon) << first + r << " " << c;
            }
          }
          x.ExpectGapsWhole();
        }
      }
    }
  }
}

TEST(AddPositions, AddsTheRowsOfALearnedTable) {
  constexpr std::int64_t kWidth = 5;
  constexpr std::int64_t kPositions = 12;
  for (const TensorKind kind : {TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16}) {
    OwnedTensor table = MakeTensor(kind, {kPositions, kWidth});
    for (std::int64_t i = 0; i < kPositions * kWidth; ++i) {
      const float value = static_cast<float>(i) / 3;
      if (kind == TensorKind::kF32) table.floats()[i] = value;
      auto* halves = reinterpret_cast<std::uint16_t*>(table.bytes.data());
      if (kind == TensorKind::kF16) halves[i] = F16FromFloat(value);
      if (kind == TensorKind::kBF16) halves[i] = BF16FromFloat(value);
    }
    for (const std::int64_t first : {0, 1, 5, 8}) {
      Rows x(4, kWidth);
      Rows before = x;
      AddPositions(Spec(PositionKind::kLearned), table.view(), first, x.View());
      for (std::int64_t r = 0; r < 4; ++r) {
        for (std::int64_t c = 0; c < kWidth; ++c) {
          ASSERT_EQ(x.At(r, c), before.At(r, c) + ElementAsFloat(table.view(), (first + r) * kWidth + c))
              << NameOf(kind) << " " << first + r << " " << c;
        }
      }
      x.ExpectGapsWhole();
    }
  }
}

TEST(AddPositions, LeavesEmbeddingsAloneForSchemesThatAddNothing) {
  for (const PositionKind kind : {PositionKind::kNone, PositionKind::kRotary, PositionKind::kAlibi}) {
    Rows x(3, 4);
    const std::vector<float> before = x.numbers;
    AddPositions(Spec(kind), {}, 7, x.View());
    EXPECT_EQ(x.numbers, before);
  }
}

PositionSpec Alibi(std::vector<float> slopes, std::int64_t query_offset = 0, std::int64_t key_offset = 0) {
  PositionSpec spec = Spec(PositionKind::kAlibi);
  spec.slopes = std::move(slopes);
  spec.query_offset = query_offset;
  spec.key_offset = key_offset;
  return spec;
}

// -slope x |query position - key position|, on both sides of the diagonal.
TEST(AddAlibi, LowersScoresByTheDistance) {
  const std::vector<float> slopes = {0.5F, 0.00390625F, 0, -1.5F, 0.7071F};
  for (const auto& [query_offset, key_offset] :
       {std::pair<std::int64_t, std::int64_t>{0, 0}, {10, 0}, {0, 10}, {-300, 5}, {4000000, 3999990}}) {
    const PositionSpec spec = Alibi(slopes, query_offset, key_offset);
    for (std::size_t head = 0; head < slopes.size(); ++head) {
      for (const auto& [rows, keys] : {std::pair<Range, Range>{{0, 1}, {0, 1}},
                                       {{0, 5}, {0, 37}},
                                       {{3, 8}, {5, 22}},
                                       {{64, 80}, {0, 16}},
                                       {{0, 3}, {512, 530}}}) {
        Rows scores(rows.size(), keys.size());
        Rows before = scores;
        AddAlibi(spec, static_cast<std::int64_t>(head), rows, keys, scores.View());
        for (std::int64_t r = 0; r < rows.size(); ++r) {
          for (std::int64_t c = 0; c < keys.size(); ++c) {
            const std::int64_t apart = (query_offset + rows.begin + r) - (key_offset + keys.begin + c);
            const double bias = -static_cast<double>(slopes[head]) * std::fabs(static_cast<double>(apart));
            const double start = before.At(r, c);
            // One rounding where the target fuses, two where it does not.
            ASSERT_NEAR(scores.At(r, c), start + bias, kEpsilon * (std::fabs(start) + std::fabs(bias)))
                << "head " << head << " row " << rows.begin + r << " key " << keys.begin + c;
          }
        }
        scores.ExpectGapsWhole();
      }
    }
  }
}

TEST(AddAlibi, IsSymmetricAroundTheDiagonal) {
  Rows scores(9, 9);
  for (float& x : scores.numbers) x = x == kGap ? kGap : 0;
  AddAlibi(Alibi({0.25F}), 0, {0, 9}, {0, 9}, scores.View());
  for (std::int64_t i = 0; i < 9; ++i) {
    EXPECT_EQ(scores.At(i, i), 0);
    for (std::int64_t j = 0; j < 9; ++j) {
      EXPECT_EQ(scores.At(i, j), scores.At(j, i));
      EXPECT_EQ(scores.At(i, j), -0.25F * static_cast<float>(std::abs(i - j)));
    }
  }
}

TEST(AddAlibi, GivesTilesTheBiasOfTheWhole) {
  const PositionSpec spec = Alibi({0.3F}, 3, 1);
  Rows whole(6, 40);
  AddAlibi(spec, 0, {0, 6}, {0, 40}, whole.View());
  for (const Range keys : {Range{0, 16}, Range{16, 33}, Range{33, 40}}) {
    Rows tile(2, keys.size());
    Rows start(6, 40);
    for (std::int64_t r = 0; r < 2; ++r) {
      for (std::int64_t c = 0; c < keys.size(); ++c) tile.At(r, c) = start.At(4 + r, keys.begin + c);
    }
    AddAlibi(spec, 0, {4, 6}, keys, tile.View());
    for (std::int64_t r = 0; r < 2; ++r) {
      for (std::int64_t c = 0; c < keys.size(); ++c) EXPECT_EQ(tile.At(r, c), whole.At(4 + r, keys.begin + c));
    }
  }
}

}  // namespace
}  // namespace headlight
