#include "server/engine/naive.h"

#include <algorithm>
#include <limits>

#include "server/engine/tiles.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
// Scores that one unit turns into weights.
constexpr std::int64_t kUnitScores = std::int64_t{1} << 18;

class Naive final : public Phase {
 public:
  explicit Naive(CallState& call) : Phase(Stage::kAttend), call_(call) {}

  std::int64_t Begin() override {
    const Dimensions& d = call_.dims();
    grid_ = FloatBuffer(call_.account, MemoryUse::kScratch, d.batch * d.query_heads * d.query_tokens * d.key_tokens);
    return QueryBlocks(call_);
  }

  // The steps of a block: a tile of scores each, then groups of rows to weights, then a tile of values each.
  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override {
    const QueryBlock block = QueryBlockOf(call_, task);
    Tiles tiles(call_, lane);
    if (step == 0) tiles.Start(block);
    const std::int64_t width = call_.plan.tile.keys;
    const std::int64_t rows = block.parts() * block.rows.size();
    const std::int64_t spans = CeilDiv(block.keys.size(), width);
    const std::int64_t height = std::clamp<std::int64_t>(kUnitScores / call_.dims().key_tokens, 1, rows);
    const std::int64_t groups = CeilDiv(rows, height);
    absl::Status status;
    if (step < spans) {
      status = ScoreSpan(block, SpanOf(block, step), tiles);
    } else if (step < spans + groups) {
      const std::int64_t first = (step - spans) * height;
      SoftmaxRows(block, {first, std::min(first + height, rows)}, tiles);
    } else if (step < 2 * spans + groups) {
      status = BlendSpan(block, SpanOf(block, step - spans - groups), tiles);
      CountTile(call_);
    }
    if (!status.ok()) return status;
    const std::int64_t piece = step + 1 - (2 * spans + groups);
    if (piece < 0) return true;
    if (status = tiles.Finish(block, piece); !status.ok()) return status;
    return piece + 1 < tiles.FinishPieces(block);
  }

 private:
  Range SpanOf(const QueryBlock& block, std::int64_t index) const {
    const std::int64_t width = call_.plan.tile.keys;
    const std::int64_t begin = block.keys.begin + index * width;
    return {begin, std::min(begin + width, block.keys.end)};
  }

  // Row i of all rows of all parts of a block, in the grid and in the tile.
  struct Place {
    float* grid;
    std::int64_t tile_row;
  };
  Place PlaceOf(const QueryBlock& block, std::int64_t i) const {
    const Dimensions& d = call_.dims();
    const TilePart part = block.Part(i / block.rows.size());
    const std::int64_t r = i % block.rows.size();
    const std::int64_t row = (block.batch * d.query_heads + part.head) * d.query_tokens + block.rows.begin + r;
    return {grid_.data() + row * d.key_tokens, part.tile_row + r};
  }

  absl::Status ScoreSpan(const QueryBlock& block, Range keys, Tiles& tiles) {
    const absl::StatusOr<bool> any = tiles.Score(block, keys);
    if (!any.ok()) return any.status();
    for (std::int64_t i = 0; i < block.parts() * block.rows.size(); ++i) {
      const Place place = PlaceOf(block, i);
      float* out = place.grid + keys.begin;
      if (*any) {
        std::copy_n(tiles.scores().Row(place.tile_row), keys.size(), out);
      } else {
        std::fill(out, out + keys.size(), kNothing);
      }
    }
    return absl::OkStatus();
  }

  void SoftmaxRows(const QueryBlock& block, Range rows, Tiles& tiles) {
    for (std::int64_t i = rows.begin; i < rows.end; ++i) {
      const Place place = PlaceOf(block, i);
      float* row = place.grid + block.keys.begin;
      const float largest = RowMax(row, block.keys.size());
      tiles.largest()[place.tile_row] = largest;
      if (largest == kNothing) {
        std::fill(row, row + block.keys.size(), 0.0F);
      } else {
        tiles.sums()[place.tile_row] = ExpAndSum(row, block.keys.size(), largest);
      }
    }
  }

  absl::Status BlendSpan(const QueryBlock& block, Range keys, Tiles& tiles) {
    tiles.SetKeys(keys);
    std::fill_n(tiles.scores().data, block.tile_rows() * tiles.scores().stride, 0.0F);
    for (std::int64_t i = 0; i < block.parts() * block.rows.size(); ++i) {
      const Place place = PlaceOf(block, i);
      std::copy_n(place.grid + keys.begin, keys.size(), tiles.scores().Row(place.tile_row));
    }
    tiles.NarrowWeights(block);
    return tiles.Blend(block, keys);
  }

  CallState& call_;
  FloatBuffer grid_;
};

}  // namespace

std::unique_ptr<Phase> MakeNaive(CallState& call) { return std::make_unique<Naive>(call); }

}  // namespace headlight
