#include "server/engine/value_lengths.h"

#include <algorithm>
#include <cmath>

#include "server/engine/overflow.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

class ValueLengths final : public Phase {
 public:
  ValueLengths(CallState& call, const Projection& projection, float* lengths)
      : Phase(Stage::kProject), call_(call), projection_(projection), lengths_(lengths) {}

  std::int64_t Begin() override { return call_.dims().query_heads * KeyBlocks(); }

  // The steps of a task, keys of one head: a block of columns of the output matrix each.
  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override {
    const Dimensions& d = call_.dims();
    const std::int64_t height = call_.plan.projection_blocks.rows;
    const std::int64_t head = task / KeyBlocks();
    const std::int64_t key = task % KeyBlocks() * height;
    const Range keys{key, std::min(key + height, d.key_tokens)};
    float* lengths = lengths_ + head * d.key_tokens;
    if (step == 0) std::fill(lengths + keys.begin, lengths + keys.end, 0.0F);
    if (projection_.output == nullptr) {
      for (std::int64_t j = keys.begin; j < keys.end; ++j) {
        lengths[j] = static_cast<float>(std::sqrt(DotInDouble(ValueOf(head, j), ValueOf(head, j), d.value_head_size)));
      }
      return false;
    }
    const std::int64_t width = call_.spec().projection->output_width;
    const std::int64_t column = step * call_.plan.projection_blocks.columns;
    const Range columns{column, std::min(column + call_.plan.projection_blocks.columns, width)};
    if (absl::Status status = AddColumns(head, keys, columns, lane.scratch); !status.ok()) return status;
    if (columns.end < width) return true;
    for (std::int64_t j = keys.begin; j < keys.end; ++j) lengths[j] = std::sqrt(lengths[j]);
    return false;
  }

 private:
  std::int64_t KeyBlocks() const { return CeilDiv(call_.dims().key_tokens, call_.plan.projection_blocks.rows); }

  const float* ValueOf(std::int64_t head, std::int64_t key) const {
    const Dimensions& d = call_.dims();
    return projection_.value_rows.data() + (key * d.key_value_heads + d.KeyValueHead(head)) * d.value_head_size;
  }

  // Adds the squares of some columns to the keys' lengths.
  absl::Status AddColumns(std::int64_t head, Range keys, Range columns, float* scratch) {
    const Dimensions& d = call_.dims();
    const std::int64_t size = d.value_head_size;
    const std::int64_t width = call_.spec().projection->output_width;
    const std::int64_t height = std::min(call_.plan.projection_blocks.rows, RoundUp(d.key_tokens, kTailRows));
    for (std::int64_t j = keys.begin; j < keys.end; ++j) {
      std::copy_n(ValueOf(head, j), size, scratch + (j - keys.begin) * size);
    }
    std::fill(scratch + keys.size() * size, scratch + height * size, 0.0F);
    float* result = scratch + height * size;
    const MatmulShape shape{height, columns.size(), size, size, width, columns.size(), false, false};
    const float* matrix = projection_.output + head * size * width + columns.begin;
    if (absl::Status status = call_.matmuls.Run(shape, scratch, matrix, result); !status.ok()) return status;
    for (std::int64_t j = keys.begin; j < keys.end; ++j) {
      const float* row = result + (j - keys.begin) * columns.size();
      float& square = lengths_[head * d.key_tokens + j];
      square += static_cast<float>(DotInDouble(row, row, columns.size()));
      if (std::isfinite(square) || call_.spec().allow_non_finite) continue;
      return Overflow(call_.spec().InputField(), "a value behind the output matrix, squared", {head, j});
    }
    return absl::OkStatus();
  }

  CallState& call_;
  const Projection& projection_;
  float* lengths_;
};

}  // namespace

std::unique_ptr<Phase> MakeValueLengths(CallState& call, const Projection& projection, float* lengths) {
  return std::make_unique<ValueLengths>(call, projection, lengths);
}

}  // namespace headlight
