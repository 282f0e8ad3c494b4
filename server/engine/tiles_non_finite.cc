// What tiles do about numbers that are not finite.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "server/engine/overflow.h"
#include "server/engine/tiles.h"
#include "server/kernels/convert.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

}  // namespace

absl::Status Tiles::CheckFinite(const Tile& tile, const Matrix<float>& scores, float* flaws) {
  for (std::int64_t r = 0; r < scores.rows; ++r) {
    const float* row = scores.Row(r);
    for (std::int64_t j = FirstNonFinite(row, scores.cols); j < scores.cols; ++j) {
      const std::int64_t query = tile.rows.begin + r;
      const std::int64_t key = tile.keys.begin + j;
      if (std::isfinite(row[j]) || !call_.rules.Allows(tile.batch, tile.head, query, key)) continue;
      if (!call_.spec().allow_non_finite) {
        return Overflow(call_.spec().InputField(), "a score", {tile.batch, tile.head, query, key});
      }
      if (row[j] != kNothing) flaws[r] = kSawNaN;
    }
  }
  return absl::OkStatus();
}

void Tiles::CleanFlawed(const Matrix<float>& scores, float* flaws) {
  for (std::int64_t r = 0; r < scores.rows; ++r) {
    float* row = scores.Row(r);
    for (std::int64_t j = 0; j < scores.cols; ++j) {
      if (std::isfinite(row[j]) || row[j] == kNothing) continue;
      flaws[r] = kSawNaN;
      row[j] = kNothing;
    }
  }
}

bool Tiles::ZeroNonFinite(const QueryBlock& block, Range keys, Rows& values) {
  const std::int64_t size = call_.value.size;
  bool flawed = false;
  const auto width = static_cast<std::size_t>(call_.plan.bf16_products ? 2 : 4);
  const TensorKind kind = call_.plan.bf16_products ? TensorKind::kBF16 : TensorKind::kF32;
  std::vector<float> row(static_cast<std::size_t>(size));
  for (std::int64_t stack = 0; stack < block.key_value_heads; ++stack) {
    for (std::int64_t j = 0; j < keys.size(); ++j) {
      const auto at = static_cast<std::size_t>(stack * values.step + j * values.stride) * width;
      WidenRow(kind, static_cast<const std::byte*>(values.data) + at, row.data(), size);
      flawed = flawed || FirstNonFinite(row.data(), size) < size;
    }
  }
  if (!flawed) return false;
  KeyValueRows from = call_.value;
  from.ready = false;  // so that a copy is made, whose numbers may be changed
  values = LoadRows(block, from, keys, value_room_);
  for (std::int64_t at = 0; at < block.key_value_heads * values.step; ++at) {
    auto* place = reinterpret_cast<std::byte*>(value_room_) + static_cast<std::size_t>(at) * width;
    float value = 0;
    WidenRow(kind, place, &value, 1);
    if (!std::isfinite(value)) std::memset(place, 0, width);
  }
  return true;
}

void Tiles::BlendNonFinite(const QueryBlock& block, const TilePart& part, Range keys) {
  const std::int64_t size = call_.value.size;
  const bool bf16 = call_.plan.bf16_products;
  const bool all = call_.rules.Judge({block.batch, part.head, block.rows, keys}) == Verdict::kFull;
  std::vector<float> values(static_cast<std::size_t>(size));
  for (std::int64_t key = keys.begin; key < keys.end; ++key) {
    const HeadsView& where = call_.value.where;
    WidenRow(where.kind, where.At(block.batch, call_.dims().KeyValueHead(part.head), key), values.data(), size);
    if (FirstNonFinite(values.data(), size) == size) continue;
    // Where values are finite, the product has counted them.
    for (float& value : values) value = std::isfinite(value) ? 0 : value;
    for (std::int64_t r = 0; r < block.rows.size(); ++r) {
      if (!all && !call_.rules.Allows(block.batch, part.head, block.rows.begin + r, key)) continue;
      const std::int64_t column = key - keys.begin;
      float weight = scores_.Row(part.tile_row + r)[column];
      if (bf16) {
        const auto* half = reinterpret_cast<const std::byte*>(HalvesOf(part.tile_row + r) + column);
        WidenRow(TensorKind::kBF16, half, &weight, 1);
      }
      AddScaledRow(output_.Row(part.tile_row + r), values.data(), size, weight);
    }
  }
}

}  // namespace headlight
