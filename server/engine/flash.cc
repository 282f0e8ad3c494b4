#include "server/engine/flash.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "server/engine/tiles.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
// About half a millisecond of products on one core of the machines this is meant for.
constexpr std::int64_t kUnitFlops = 32'000'000;

class Flash final : public Phase {
 public:
  explicit Flash(CallState& call) : Phase(Stage::kAttend), call_(call) {
    const TileSize tile = call.plan.tile;
    const std::int64_t tile_flops =
        2 * tile.query_rows * tile.keys * (call.dims().head_size + call.dims().value_head_size);
    tiles_per_unit_ = std::max<std::int64_t>(1, kUnitFlops / tile_flops);
  }

  std::int64_t Begin() override { return QueryBlocks(call_); }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override {
    const QueryBlock block = QueryBlockOf(call_, task);
    Tiles tiles(call_, lane);
    if (step == 0) tiles.Start(block);
    const std::int64_t width = call_.plan.tile.keys;
    std::int64_t key = block.keys.begin + step * tiles_per_unit_ * width;
    const std::int64_t end = std::min(key + tiles_per_unit_ * width, block.keys.end);
    for (; key < end; key += width) {
      if (absl::Status status = PassTile(block, {key, std::min(key + width, block.keys.end)}, tiles); !status.ok()) {
        return status;
      }
    }
    if (end < block.keys.end) return true;
    if (absl::Status status = tiles.Finish(block); !status.ok()) return status;
    return false;
  }

 private:
  absl::Status PassTile(const QueryBlock& block, Range keys, Tiles& tiles) {
    const absl::StatusOr<bool> any = tiles.Score(block, keys);
    if (!any.ok()) return any.status();
    if (!*any) return absl::OkStatus();
    const std::int64_t padded = block.padded(keys.size());
    for (std::int64_t r = 0; r < block.rows.size(); ++r) {
      float* scores = tiles.scores().Row(r);
      const float largest = std::max(tiles.largest()[r], RowMax(scores, keys.size()));
      if (largest == kNothing) {
        std::fill(scores, scores + padded, 0.0F);
        continue;
      }
      if (largest > tiles.largest()[r]) {
        const float factor = std::exp(tiles.largest()[r] - largest);
        tiles.sums()[r] *= factor;
        ScaleRow(tiles.output().Row(r), tiles.output().cols, factor);
        tiles.largest()[r] = largest;
      }
      tiles.sums()[r] += ExpAndSum(scores, keys.size(), largest);
      std::fill(scores + keys.size(), scores + padded, 0.0F);
    }
    return tiles.Blend(block, keys);
  }

  CallState& call_;
  std::int64_t tiles_per_unit_ = 1;
};

}  // namespace

std::unique_ptr<Phase> MakeFlash(CallState& call) { return std::make_unique<Flash>(call); }

}  // namespace headlight
