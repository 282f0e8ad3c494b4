// Schemes that add: against the double reference and the formulas of the papers.
#include "server/positions/additive.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <utility>
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

// -slope x (|query position - key position| - base), on both sides of the diagonal, whatever the base.
TEST(AddAlibi, LowersScoresByTheDistanceBeyondTheBase) {
  constexpr std::int64_t kKeys = 37;
  for (const float slope : {0.5F, 0.00390625F, 0.0F, -1.5F, 0.7071F}) {
    for (const auto& [query, first_key] : {std::pair<std::int64_t, std::int64_t>{0, 0},
                                           {20, 0},
                                           {0, 10},
                                           {4'000'000, 3'999'990},
                                           {2'000'000'000, 0},
                                           {0, 2'000'000'000}}) {
      std::vector<std::int64_t> positions(kKeys);
      for (std::int64_t j = 0; j < kKeys; ++j) positions[static_cast<std::size_t>(j)] = first_key + j;
      const auto apart = [&positions, from = query](std::int64_t j) {
        return std::abs(from - positions[static_cast<std::size_t>(j)]);
      };
      std::int64_t nearest = apart(0);
      for (std::int64_t j = 0; j < kKeys; ++j) nearest = std::min(nearest, apart(j));
      for (const std::int64_t base : {std::int64_t{0}, nearest, std::max(apart(0), apart(kKeys - 1))}) {
        std::vector<float> by_offset(kKeys, 0.25F), by_list(kKeys, 0.25F);
        AddAlibi(slope, query, first_key, kKeys, base, by_offset.data());
        AddAlibiAt(slope, query, positions.data(), kKeys, base, by_list.data());
        for (std::int64_t j = 0; j < kKeys; ++j) {
          const double bias = static_cast<double>(slope) * static_cast<double>(apart(j) - base);
          for (const auto& got : {by_offset, by_list}) {
            ASSERT_NEAR(got[static_cast<std::size_t>(j)], 0.25 - bias, 2 * kEpsilon * (0.25 + std::fabs(bias)))
                << slope << " from " << query << " to " << first_key + j << " beside " << base;
          }
        }
      }
    }
  }
}

TEST(AddAlibi, GivesTilesTheBiasOfTheWhole) {
  std::vector<float> whole(40, 0.5F), parts(40, 0.5F);
  AddAlibi(0.3F, 7, 1, 40, 0, whole.data());
  for (const std::int64_t begin : {0, 16, 33}) {
    AddAlibi(0.3F, 7, 1 + begin,
             std::min<std::int64_t>(begin == 0    ? 16
                                    : begin == 16 ? 17
                                                  : 7,
                                    40 - begin),
             0, parts.data() + begin);
  }
  EXPECT_EQ(parts, whole);
}

}  // namespace
}  // namespace headlight
