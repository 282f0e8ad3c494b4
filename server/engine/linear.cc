#include "server/engine/linear.h"

#include <algorithm>

#include "server/base/half.h"
#include "server/engine/overflow.h"
#include "server/kernels/convert.h"
#include "server/kernels/rows.h"

namespace headlight {

std::int64_t Linear::TasksOf(const LinearMap& map) const {
  return CeilDiv(map.fan_out, blocks_.columns) * map.batches * CeilDiv(map.tokens, blocks_.rows);
}

std::int64_t Linear::Begin() {
  std::int64_t tasks = 0;
  for (const LinearMap& map : maps_) tasks += TasksOf(map);
  return tasks;
}

absl::StatusOr<bool> Linear::Run(std::int64_t task, std::int64_t /*step*/, Lane& lane) {
  for (const LinearMap& map : maps_) {
    const std::int64_t tasks = TasksOf(map);
    if (task >= tasks) {
      task -= tasks;
      continue;
    }
    if (absl::Status status = RunBlock(map, task, lane.scratch); !status.ok()) return status;
    break;
  }
  return false;
}

absl::Status Linear::RunBlock(const LinearMap& map, std::int64_t task, float* scratch) {
  // Columns outermost: a block of weights stays in the cache while the rows pass by it.
  const std::int64_t row_blocks = CeilDiv(map.tokens, blocks_.rows);
  const std::int64_t column = task / (map.batches * row_blocks) * blocks_.columns;
  const std::int64_t columns = std::min(blocks_.columns, map.fan_out - column);
  const std::int64_t batch = task / row_blocks % map.batches;
  const std::int64_t token = task % row_blocks * blocks_.rows;
  const std::int64_t rows = std::min(blocks_.rows, map.tokens - token);
  const std::int64_t height = std::min(blocks_.rows, RoundUp(map.tokens, kTailRows));
  const float* input = map.input + (batch * map.tokens + token) * map.fan_in;
  float* result = scratch + blocks_.rows * map.fan_in;
  if (rows < height) {
    std::copy_n(input, rows * map.fan_in, scratch);
    std::fill(scratch + rows * map.fan_in, scratch + height * map.fan_in, 0.0F);
    input = scratch;
  }
  const MatmulShape shape{height, columns, map.fan_in, map.fan_in, map.fan_out, columns, false, false};
  if (absl::Status status = matmuls_.Run(shape, input, map.weights + column, result); !status.ok()) return status;
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = result + r * columns;
    for (std::int64_t c = 0; !map.bias.empty() && c < columns; ++c) row[c] += ElementAsFloat(map.bias, column + c);
    if (const std::int64_t c = FirstNonFinite(row, columns); c < columns && !allow_non_finite_) {
      return Overflow("self_attention", "a projection", {batch, token + r, column + c});
    }
    const std::int64_t first = (batch * map.tokens + token + r) * map.fan_out + column;
    NarrowRow(map.kind, row, map.output + first * WidthOf(map.kind), columns);
  }
  return absl::OkStatus();
}

}  // namespace headlight
