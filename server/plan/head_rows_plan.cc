#include "server/plan/head_rows_plan.h"

#include <algorithm>
#include <utility>

#include "server/masks/rules.h"

namespace headlight {
namespace {

constexpr std::int64_t kFloat = sizeof(float);
constexpr std::int64_t kWeightBytes = std::int64_t{8} << 20;
// More would let more workers begin at once, and each chain keeps sums of its own.
constexpr std::int64_t kMostChains = 64;
constexpr std::int64_t kRowEnd = 2;  // floats: how a row of a head ended
constexpr std::int64_t kRowNorm = 2;

}  // namespace

HeadRowsPlan PlanHeadRows(ExecutionPlan given) {
  HeadRowsPlan out{std::move(given)};
  ExecutionPlan& plan = out.plan;
  const Dimensions& d = plan.spec.dims;
  plan.algorithm = Algorithm::kFlash;
  plan.reason = "whole rows of all heads, some at a time, and no output: neither of the two";
  plan.bytes.grid = 0;
  plan.packs_value_tiles = false;
  out.stride = RoundUp(d.key_tokens, kTailKeys);
  const std::int64_t fit = kWeightBytes / (d.query_heads * out.stride * kFloat);
  out.rows = std::clamp<std::int64_t>(fit, 1, std::min(plan.tile.query_rows, d.query_tokens));
  if (out.rows > kTailRows) out.rows = out.rows / kTailRows * kTailRows;
  out.tile_floats = RoundUp(plan.bytes.scratch_per_lane / kFloat, kTailKeys);
  plan.bytes.scratch_per_lane = kFloat * (out.tile_floats + d.query_heads * out.rows * (out.stride + kRowEnd));
  plan.bytes.row_norms = d.query_heads * d.query_tokens * kRowNorm * kFloat;
  plan.bytes.projection += d.query_heads * d.key_tokens * kFloat;  // lengths of values
  out.chains = std::min(CeilDiv(d.query_tokens, out.rows), kMostChains);
  out.pairs = MaskRules(plan.spec).VisiblePairs();
  // Few rows of few heads fill a product's padding with zeros.
  const std::int64_t group = std::min(d.query_heads / d.key_value_heads, plan.tile.query_rows / out.rows);
  const double padding =
      static_cast<double>(RoundUp(group * out.rows, kTailRows)) / static_cast<double>(group * out.rows);
  const double scores = 2.0 * static_cast<double>(out.pairs * d.query_heads * d.head_size) * padding;
  // The output matrix is met once per value, as in a projection.
  plan.flops = ProjectionFlops(plan.spec) + static_cast<std::int64_t>(scores);
  return out;
}

}  // namespace headlight
