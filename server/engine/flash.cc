#include "server/engine/flash.h"

#include <algorithm>

#include "server/engine/tiles.h"

namespace headlight {
namespace {

// About half a millisecond of products on one core of the machines this is meant for.
constexpr std::int64_t kUnitFlops = 32'000'000;

class Flash final : public Phase {
 public:
  explicit Flash(CallState& call) : Phase(Stage::kAttend), call_(call) {
    const TileSize tile = call.plan.tile;
    const std::int64_t tile_flops = 2 * tile.query_rows * call.plan.tile_heads.key_value_heads * tile.keys *
                                    (call.dims().head_size + call.dims().value_head_size);
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
      CountTile(call_);
    }
    if (end < block.keys.end) return true;
    const std::int64_t units = std::max<std::int64_t>(1, CeilDiv(block.keys.size(), tiles_per_unit_ * width));
    const std::int64_t piece = step + 1 - units;
    if (absl::Status status = tiles.Finish(block, piece); !status.ok()) return status;
    return piece + 1 < tiles.FinishPieces(block);
  }

 private:
  absl::Status PassTile(const QueryBlock& block, Range keys, Tiles& tiles) {
    const absl::StatusOr<bool> any = tiles.Weigh(block, keys);
    if (!any.ok()) return any.status();
    return *any ? tiles.Blend(block, keys) : absl::OkStatus();
  }

  CallState& call_;
  std::int64_t tiles_per_unit_ = 1;
};

}  // namespace

std::unique_ptr<Phase> MakeFlash(CallState& call) { return std::make_unique<Flash>(call); }

}  // namespace headlight
