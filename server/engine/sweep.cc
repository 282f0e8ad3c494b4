#include "server/engine/sweep.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "server/engine/tiles.h"

namespace headlight {
namespace {

// About half a millisecond on one core of the machines this is meant for.
constexpr std::int64_t kUnitFlops = 16'000'000;

class Sweeps final : public Phase {
 public:
  explicit Sweeps(CallState& call) : Phase(Stage::kMaps), call_(call) {
    const TileSize tile = call.plan.tile;
    tiles_per_unit_ = std::max<std::int64_t>(1, kUnitFlops / (2 * tile.query_rows * tile.keys * call.dims().head_size));
  }

  std::int64_t Begin() override {
    for (ScoreSink* sink : call_.sinks) {
      const std::vector<Sweep> sweeps = sink->Sweeps();
      for (std::size_t i = 0; i < sweeps.size(); ++i) items_.push_back({sink, i, sweeps[i]});
    }
    return static_cast<std::int64_t>(items_.size());
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override {
    const Item& item = items_[static_cast<std::size_t>(task)];
    const TileSize tile = call_.plan.tile;
    const std::int64_t across = CeilDiv(item.sweep.keys.size(), tile.keys);
    const std::int64_t all = TilesOf(call_, item.sweep);
    const std::int64_t end = std::min((step + 1) * tiles_per_unit_, all);
    Tiles tiles(call_, lane);
    bool skips = false;  // no tile of these rows is looked at
    for (std::int64_t i = step * tiles_per_unit_; i < end; ++i) {
      const std::int64_t row = item.sweep.rows.begin + i / across * tile.query_rows;
      const std::int64_t key = item.sweep.keys.begin + i % across * tile.keys;
      const Range rows{row, std::min(row + tile.query_rows, item.sweep.rows.end)};
      const Range keys{key, std::min(key + tile.keys, item.sweep.keys.end)};
      const bool starts = i % across == 0;
      if (starts || i == step * tiles_per_unit_) skips = IsNothing(item.sweep, rows, item.sweep.keys);
      CountTile(call_);
      if (skips) continue;
      const QueryBlock block = OneHeadBlock(call_, item.sweep.batch, item.sweep.head, rows, item.sweep.keys);
      if (starts) tiles.Start(block);
      if (IsNothing(item.sweep, rows, keys)) continue;
      if (absl::Status status = tiles.Show(block, keys, item.sweep.stage); !status.ok()) return status;
      const Matrix<float> shown = tiles.scores();
      const Matrix<const float> values{shown.data, rows.size(), keys.size(), shown.stride};
      item.sink->OnSweep(item.index, {block.batch, item.sweep.head, rows, keys, values, call_.rules});
    }
    if (end < all) return true;
    item.sink->OnSweepDone(item.index);
    return false;
  }

 private:
  struct Item {
    ScoreSink* sink;
    std::size_t index;
    Sweep sweep;
  };

  // Whether all its weights are 0: no pair may attend, and no row is NaN.
  bool IsNothing(const Sweep& sweep, Range rows, Range keys) const {
    return sweep.stage == MapStage::kWeights && !call_.spec().allow_non_finite &&
           call_.rules.Judge({sweep.batch, sweep.head, rows, keys}) == Verdict::kEmpty;
  }

  CallState& call_;
  std::int64_t tiles_per_unit_ = 1;
  std::vector<Item> items_;
};

}  // namespace

std::int64_t TilesOf(const CallState& call, const Sweep& sweep) {
  return CeilDiv(sweep.keys.size(), call.plan.tile.keys) * CeilDiv(sweep.rows.size(), call.plan.tile.query_rows);
}

std::unique_ptr<Phase> MakeSweeps(CallState& call) { return std::make_unique<Sweeps>(call); }

}  // namespace headlight
