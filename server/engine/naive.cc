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
    const std::int64_t spans = CeilDiv(block.keys.size(), width);
    const std::int64_t height = std::clamp<std::int64_t>(kUnitScores / call_.dims().key_tokens, 1, block.rows.size());
    const std::int64_t groups = CeilDiv(block.rows.size(), height);
    absl::Status status;
    if (step < spans) {
      status = ScoreSpan(block, SpanOf(block, step), tiles);
    } else if (step < spans + groups) {
      const std::int64_t first = (step - spans) * height;
      SoftmaxRows(block, {first, std::min(first + height, block.rows.size())}, tiles);
    } else if (step < 2 * spans + groups) {
      status = BlendSpan(block, SpanOf(block, step - spans - groups), tiles);
    }
    if (!status.ok()) return status;
    if (step + 1 < 2 * spans + groups) return true;
    if (status = tiles.Finish(block); !status.ok()) return status;
    return false;
  }

 private:
  Range SpanOf(const QueryBlock& block, std::int64_t index) const {
    const std::int64_t width = call_.plan.tile.keys;
    const std::int64_t begin = block.keys.begin + index * width;
    return {begin, std::min(begin + width, block.keys.end)};
  }

  float* GridRow(const QueryBlock& block, std::int64_t r) const {
    const Dimensions& d = call_.dims();
    return grid_.data() +
           ((block.batch * d.query_heads + block.head) * d.query_tokens + block.rows.begin + r) * d.key_tokens;
  }

  absl::Status ScoreSpan(const QueryBlock& block, Range keys, Tiles& tiles) {
    const absl::StatusOr<bool> any = tiles.Score(block, keys);
    if (!any.ok()) return any.status();
    for (std::int64_t r = 0; r < block.rows.size(); ++r) {
      float* out = GridRow(block, r) + keys.begin;
      if (*any) {
        std::copy_n(tiles.scores().Row(r), keys.size(), out);
      } else {
        std::fill(out, out + keys.size(), kNothing);
      }
    }
    return absl::OkStatus();
  }

  void SoftmaxRows(const QueryBlock& block, Range group, Tiles& tiles) {
    for (std::int64_t r = group.begin; r < group.end; ++r) {
      float* row = GridRow(block, r) + block.keys.begin;
      const float largest = RowMax(row, block.keys.size());
      tiles.largest()[r] = largest;
      if (largest == kNothing) {
        std::fill(row, row + block.keys.size(), 0.0F);
      } else {
        tiles.sums()[r] = ExpAndSum(row, block.keys.size(), largest);
      }
    }
  }

  absl::Status BlendSpan(const QueryBlock& block, Range keys, Tiles& tiles) {
    const std::int64_t padded = block.padded(keys.size());
    for (std::int64_t r = 0; r < block.padded_rows; ++r) {
      float* weights = tiles.scores().Row(r);
      std::fill(weights, weights + padded, 0.0F);
      if (r < block.rows.size()) std::copy_n(GridRow(block, r) + keys.begin, keys.size(), weights);
    }
    return tiles.Blend(block, keys);
  }

  CallState& call_;
  FloatBuffer grid_;
};

}  // namespace

std::unique_ptr<Phase> MakeNaive(CallState& call) { return std::make_unique<Naive>(call); }

}  // namespace headlight
