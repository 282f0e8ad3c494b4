#include "server/plan/planner.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/errors.h"
#include "server/masks/rules.h"

namespace headlight {
namespace {

constexpr std::int64_t kFloat = sizeof(float);
constexpr std::int64_t kDouble = sizeof(double);
constexpr std::int64_t kIndex = sizeof(std::int64_t);
constexpr std::int64_t kReferenceFlops = 2'000'000'000;
// Protobuf's framing around one map and around one answer, generously.
constexpr std::int64_t kMapOverhead = 64;
constexpr std::int64_t kAnswerOverhead = 512;
constexpr std::int64_t kStatisticsBytes = 96;  // of one head
constexpr std::int64_t kStatisticsRow = 32;    // what is summed up of a row

// Rows of a tile's scores: its stacks of heads, padded each.
std::int64_t TileRows(TileSize tile, TileHeads heads) { return tile.query_rows * heads.key_value_heads; }

// Scratch of one lane in the attention phase: Q tile, scores, accumulator, K and V of a tile where they do not lie
// ready (and room for one row more, which is narrowed in place), seven numbers a row.
std::int64_t AttentionScratch(const Dimensions& d, TileSize tile, TileHeads heads) {
  return kFloat * (TileRows(tile, heads) * (d.head_size + tile.keys + d.value_head_size + 7) +
                   (tile.keys * heads.key_value_heads + 1) * (d.head_size + d.value_head_size));
}

std::int64_t DeepestProjection(const ProblemSpec& spec) {
  return std::max(
      {spec.projection->width, spec.projection->context_width, spec.dims.query_heads * spec.dims.value_head_size});
}

// Scratch of one lane in a projection: padded input rows and one block of results.
std::int64_t ProjectionScratch(const ProblemSpec& spec, ProjectionBlocks blocks) {
  return kFloat * blocks.rows * (DeepestProjection(spec) + blocks.columns);
}

std::int64_t ProjectionBytes(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  const ProjectionSpec& p = *spec.projection;
  const bool widen = spec.kind != TensorKind::kF32;
  const bool adds_positions =
      spec.position.kind == PositionKind::kSinusoidal || spec.position.kind == PositionKind::kLearned;
  const std::int64_t q_width = d.query_heads * d.head_size;
  const std::int64_t kv_width = d.key_value_heads * (d.head_size + d.value_head_size);
  const std::int64_t concat = d.query_heads * d.value_head_size;
  std::int64_t floats = d.batch * (d.query_tokens * q_width + d.key_tokens * kv_width);
  if (widen || adds_positions || p.seeded_embeddings) floats += d.batch * d.query_tokens * p.width;
  if (p.has_context && widen) floats += d.batch * d.key_tokens * p.context_width;
  if (p.weights == WeightsSource::kSeeded || (p.weights == WeightsSource::kExplicit && widen)) {
    floats += p.width * q_width + p.context_width * kv_width + concat * p.output_width;
  }
  if (p.output_width > 0) floats += d.batch * d.query_tokens * concat;
  return floats * kFloat;
}

// What is made of positions up front: cosines and sines, or where distances count from.
std::int64_t PositionBytes(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  if (spec.position.kind == PositionKind::kAlibi) return d.batch * d.query_heads * d.query_tokens * kIndex;
  if (spec.position.kind != PositionKind::kRotary) return 0;
  const auto rows = [](const std::vector<std::int64_t>& positions, std::int64_t tokens) {
    return positions.empty() ? tokens : static_cast<std::int64_t>(positions.size());
  };
  return (rows(spec.position.query_positions, d.query_tokens) + rows(spec.position.key_positions, d.key_tokens)) *
         spec.position.rotary_size * kFloat;
}

// K and V made ready up front: what products cannot take as it came.
std::int64_t PackedBytes(const ProblemSpec& spec, bool bf16) {
  const Dimensions& d = spec.dims;
  // Projected rows are float32, and are turned and rounded where they are.
  const bool ready = spec.projection.has_value() ? !bf16 : spec.kind == (bf16 ? TensorKind::kBF16 : TensorKind::kF32);
  const bool turned = !spec.projection.has_value() && spec.position.kind == PositionKind::kRotary;
  const bool rounded = spec.precision == ComputePrecision::kBFloat16 && !bf16 && !spec.projection.has_value();
  const std::int64_t rows = d.batch * d.key_value_heads * d.key_tokens;
  const std::int64_t width = bf16 ? 2 : kFloat;
  std::int64_t bytes = 0;
  if (!ready || turned || rounded) bytes += rows * width * d.head_size;
  if (!ready || rounded) bytes += rows * width * d.value_head_size;
  return bytes;
}

// Whether it pays to lay full tiles of K and V in the products' own order: where many query rows meet each, and none
// begins in the middle of another.
void PlanPackedTiles(std::int64_t visible_pairs, Processor processor, ExecutionPlan& plan) {
  constexpr std::int64_t kRows = 512;  // from here on the reordering is under a hundredth of the products
  const ProblemSpec& spec = plan.spec;
  const Dimensions& d = spec.dims;
  const std::int64_t heads = d.batch * d.key_value_heads;
  const std::int64_t tiles = d.key_tokens / plan.tile.keys;
  if (!processor.gains_from_packing || plan.algorithm != Algorithm::kFlash || tiles == 0) return;
  if (spec.mask.window.has_value() || visible_pairs * d.query_heads < kRows * heads * d.key_tokens) return;
  const std::int64_t made_ready = PackedBytes(spec, plan.bf16_products);
  if (made_ready > 0 && !plan.packs) return;  // tile by tile: there are no rows to pack from
  const std::int64_t left = kMaxPackedBytes - made_ready;
  const std::int64_t keys = heads * tiles * PackedTileBytes(d.head_size, plan.tile.keys, plan.bf16_products);
  const std::int64_t values = heads * tiles * PackedTileBytes(plan.tile.keys, d.value_head_size, plan.bf16_products);
  plan.packs_key_tiles = keys <= left;
  // Values in float32 gain only where rows of other heads lie between them.
  const bool apart = (spec.projection.has_value() || spec.layout == HeadLayout::kTokenMajor) && d.key_value_heads > 1;
  plan.packs_value_tiles = plan.packs_key_tiles && (plan.bf16_products || (apart && !plan.packs)) &&
                           !spec.allow_non_finite && keys + values <= left;
  if (plan.packs_key_tiles) plan.bytes.packed += keys;
  if (plan.packs_value_tiles) plan.bytes.packed += values;
}

// What verification keeps beside a lane's scratch: keys, values and rows in double, and what is seeded once more.
std::int64_t VerificationBytes(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  const std::int64_t rows = std::min(spec.outputs.verify_rows, d.batch * d.query_tokens);
  std::int64_t width = d.query_heads * d.value_head_size;
  std::int64_t seeded = 0;
  if (spec.projection.has_value()) {
    const ProjectionSpec& p = *spec.projection;
    if (p.output_width > 0) width = p.output_width;
    if (p.seeded_embeddings) seeded += d.query_tokens * p.width;
    if (p.weights == WeightsSource::kSeeded) {
      seeded += p.width * d.query_heads * d.head_size +
                p.context_width * d.key_value_heads * (d.head_size + d.value_head_size) +
                d.query_heads * d.value_head_size * p.output_width;
    }
  }
  const std::int64_t keys = d.batch * d.key_value_heads * d.key_tokens * (d.head_size + d.value_head_size);
  return (keys + rows * width) * kDouble + seeded * kFloat;
}

// Of one head and range of rows; `width`: bytes of a number.
std::int64_t MapBytes(const MapSpec& map, const Range& rows, std::int64_t width) {
  if (map.pooled.has_value()) return map.pooled->rows * map.pooled->columns * width;
  if (map.column_sums) return map.keys.size() * width;
  if (map.top_k == 0) return rows.size() * map.keys.size() * width;
  // A key is a varint; so is the count of a row, at most 1,024.
  const std::int64_t key_width = map.keys.end <= 128 ? 1 : map.keys.end <= 16384 ? 2 : 3;
  return rows.size() * (map.top_k * (kFloat + key_width) + 2);
}

// Maps are float32 until they are complete.
std::int64_t SinkBytes(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  std::int64_t bytes = 0;
  if (spec.outputs.head_statistics) bytes += d.batch * d.query_heads * d.query_tokens * kStatisticsRow;
  if (spec.outputs.kind == TensorKind::kF32) return bytes;
  for (const MapSpec& map : spec.outputs.maps) {
    if (map.top_k > 0) continue;
    std::int64_t of_head = 0;
    for (const Range& rows : map.rows) of_head += MapBytes(map, rows, kFloat - WidthOf(spec.outputs.kind));
    bytes += of_head * static_cast<std::int64_t>(map.heads.size() * map.batches.size());
  }
  return bytes;
}

// Keys that tiles with something to see have, for a row.
struct KeysPerRow {
  double mean = 0;
  std::int64_t most = 0;
};

KeysPerRow VisibleKeysPerRow(const ProblemSpec& spec, TileSize tile) {
  const Dimensions& d = spec.dims;
  const MaskRules rules(spec);
  KeysPerRow keys;
  double sum = 0;
  for (std::int64_t batch = 0; batch < d.batch; ++batch) {
    for (std::int64_t row = 0; row < d.query_tokens; row += tile.query_rows) {
      const Range rows{row, std::min(row + tile.query_rows, d.query_tokens)};
      const Range visible = rules.VisibleKeys(batch, rows);
      if (visible.size() <= 0) continue;
      const std::int64_t begin = visible.begin / tile.keys * tile.keys;
      const std::int64_t count = std::min(RoundUp(visible.end - begin, tile.keys), d.key_tokens);
      keys.most = std::max(keys.most, count);
      sum += static_cast<double>(count) * static_cast<double>(rows.size());
    }
  }
  keys.mean = sum / static_cast<double>(d.batch * d.query_tokens);
  return keys;
}

// Sweeps multiply once more. Every score that a map looks at costs about as much as so many multiply-adds. Weights are
// looked at where rules leave something to see: of maps of all rows as often as on average, of others as at most.
std::int64_t MapFlops(const ProblemSpec& spec, TileSize tile) {
  constexpr std::int64_t kLook = 16;
  // Many ranges of the largest problem that can be planned would not fit 64 bits.
  constexpr double kMost = std::int64_t{1} << 61;
  if (spec.outputs.maps.empty()) return 0;
  const KeysPerRow visible = VisibleKeysPerRow(spec, tile);
  double flops = 0;
  for (const MapSpec& map : spec.outputs.maps) {
    std::int64_t rows = 0;
    for (const Range& range : map.rows) rows += range.size();
    auto keys = static_cast<double>(map.keys.size());
    if (!map.IsSweep() || map.stage == MapStage::kWeights) {
      keys = std::min(keys, rows == spec.dims.query_tokens ? visible.mean : static_cast<double>(visible.most));
    }
    const double scores = static_cast<double>(rows) * keys * static_cast<double>(map.heads.size() * map.batches.size());
    flops += scores * static_cast<double>(map.IsSweep() ? 2 * spec.dims.head_size + kLook : kLook);
  }
  return static_cast<std::int64_t>(std::min(flops, kMost));
}

std::int64_t ResponseBytes(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  const OutputSpec& o = spec.outputs;
  const std::int64_t width = WidthOf(o.kind);
  const std::int64_t rows = d.batch * d.query_heads * d.query_tokens;
  std::int64_t bytes = kAnswerOverhead;
  if (o.output) bytes += ElementCount(spec.OutputShape()).value_or(0) * width;
  if (o.log_sum_exp) bytes += rows * kFloat;
  if (o.head_outputs) bytes += rows * d.value_head_size * width;
  if (o.head_statistics) bytes += d.batch * d.query_heads * kStatisticsBytes;
  for (const MapSpec& map : o.maps) {
    std::int64_t per_head = 0;
    for (const Range& range : map.rows) {
      per_head += MapBytes(map, range, width) + kMapOverhead;
    }
    bytes += per_head * static_cast<std::int64_t>(map.heads.size() * map.batches.size());
  }
  return bytes;
}

std::pair<Algorithm, absl::string_view> ChooseAlgorithm(const ProblemSpec& spec, TileSize tile) {
  if (spec.algorithm.has_value()) return {*spec.algorithm, "asked for"};
  if (spec.dims.query_tokens <= tile.query_rows && spec.dims.key_tokens <= tile.keys) {
    return {Algorithm::kFlash, "the grid of a head fits one tile, and flash goes over it once"};
  }
  return {Algorithm::kFlash, "the grid of a head is larger than a tile: flash never holds it"};
}

Violation TooLarge(absl::string_view field, std::int64_t bytes, std::int64_t limit_bytes) {
  return {std::string(field), absl::StrCat("an answer of up to ", bytes, " bytes"),
          absl::StrCat("at most ", limit_bytes, " bytes")};
}

constexpr std::int64_t kMaxLaneBytes = std::int64_t{1} << 20;

}  // namespace

std::int64_t PackedTileBytes(std::int64_t depth, std::int64_t columns, bool bf16) {
  return RoundUp(depth, 32) * RoundUp(columns, 64) * (bf16 ? 2 : 4);
}

ProjectionBlocks ChooseProjectionBlocks(std::int64_t deepest) {
  // 64 x 2048 x 256 x 2 is 67 MFLOP, under a millisecond on one core of the machines this is meant for.
  if (deepest <= 2048) return {64, 256};
  if (deepest <= 4096) return {32, 256};
  return {8, 256};
}

TileSize ChooseTile(const ProblemSpec& spec) {
  constexpr TileSize kEverywhere{128, 512};
  constexpr TileSize kAlongDiagonal{128, 256};  // rules along the diagonal make partial tiles: smaller ones waste less
  const TileSize table = spec.mask.offsets.empty() ? kEverywhere : kAlongDiagonal;
  const Dimensions& d = spec.dims;
  const std::int64_t widest = std::max(d.head_size, d.value_head_size);
  // A tile of K or V stays within 32,768 numbers, and what one lane holds within 1 MiB, for every head size.
  const std::int64_t keys = std::clamp<std::int64_t>(32768 / widest / 64 * 64, 64, table.keys);
  return {std::min(table.query_rows, RoundUp(d.query_tokens, kTailRows)),
          std::min(keys, RoundUp(d.key_tokens, kTailKeys))};
}

TileHeads ChooseTileHeads(const ProblemSpec& spec, TileSize tile) {
  constexpr std::int64_t kRows = 128;  // from here on a product runs at full speed
  const Dimensions& d = spec.dims;
  TileHeads heads;
  const std::int64_t group = d.query_heads / d.key_value_heads;
  heads.group = std::clamp<std::int64_t>(kRows / d.query_tokens, 1, group);
  if (heads.group < group || d.key_tokens > tile.keys) return heads;
  tile.query_rows = RoundUp(heads.group * d.query_tokens, kTailRows);
  heads.key_value_heads = std::clamp<std::int64_t>(kRows / tile.query_rows, 1, d.key_value_heads);
  while (heads.key_value_heads > 1 && AttentionScratch(d, tile, heads) > kMaxLaneBytes / 2) --heads.key_value_heads;
  return heads;
}

std::int64_t ProjectionFlops(const ProblemSpec& spec) {
  if (!spec.projection.has_value()) return 0;
  const Dimensions& d = spec.dims;
  const ProjectionSpec& p = *spec.projection;
  const std::int64_t query_rows = d.batch * d.query_tokens;
  const std::int64_t key_rows = d.batch * d.key_tokens;
  return 2 * (query_rows * p.width * d.query_heads * d.head_size +
              key_rows * p.context_width * d.key_value_heads * (d.head_size + d.value_head_size) +
              query_rows * d.query_heads * d.value_head_size * p.output_width);
}

std::int64_t ReferenceScratch(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  std::int64_t doubles = d.head_size + 2 * d.key_tokens + d.query_heads * d.value_head_size;
  if (spec.projection.has_value()) doubles += std::max(spec.projection->width, spec.projection->context_width);
  return doubles;
}

ExecutionPlan DraftPlan(ProblemSpec checked, Processor processor) {
  ExecutionPlan plan(std::move(checked));
  const ProblemSpec& spec = plan.spec;
  const Dimensions& d = spec.dims;
  plan.bf16_products = spec.precision == ComputePrecision::kBFloat16 && processor.multiplies_bf16;
  plan.tile = ChooseTile(spec);
  plan.tile_heads = ChooseTileHeads(spec, plan.tile);
  plan.tile.query_rows = std::max(
      plan.tile.query_rows, RoundUp(plan.tile_heads.group * std::min(d.query_tokens, plan.tile.query_rows), kTailRows));
  std::tie(plan.algorithm, plan.reason) = ChooseAlgorithm(spec, plan.tile);
  plan.score_grid_bytes = d.batch * d.query_heads * d.query_tokens * d.key_tokens * kFloat;
  plan.bytes.scratch_per_lane = AttentionScratch(d, plan.tile, plan.tile_heads);
  if (plan.algorithm == Algorithm::kNaive) plan.bytes.grid = plan.score_grid_bytes;
  if (spec.outputs.SweepsWeights()) plan.bytes.row_norms = d.batch * d.query_heads * d.query_tokens * 2 * kFloat;
  if (spec.outputs.verify_rows > 0) {
    plan.bytes.verification = VerificationBytes(spec);
    plan.bytes.verification_per_lane = ReferenceScratch(spec) * kDouble;
  }
  const std::int64_t packed = PackedBytes(spec, plan.bf16_products);
  plan.packs = packed > 0 && packed <= kMaxPackedBytes;
  plan.bytes.packed = PositionBytes(spec) + (plan.packs ? packed : 0);
  if (spec.projection.has_value()) {
    plan.projection_blocks = ChooseProjectionBlocks(DeepestProjection(spec));
    plan.bytes.projection = ProjectionBytes(spec);
    plan.bytes.scratch_per_lane =
        std::max(plan.bytes.scratch_per_lane, ProjectionScratch(spec, plan.projection_blocks));
  }
  const std::int64_t pairs = MaskRules(spec).VisiblePairs();
  PlanPackedTiles(pairs, processor, plan);
  plan.flops = 2 * pairs * d.query_heads * (d.head_size + d.value_head_size) + ProjectionFlops(spec);
  plan.map_flops = MapFlops(spec, plan.tile);
  plan.response_bytes = ResponseBytes(spec);
  plan.sink_bytes = SinkBytes(spec);
  return plan;
}

std::vector<Violation> ExceededLimits(const ExecutionPlan& plan, const Limits& limits) {
  std::vector<Violation> exceeded;
  const std::string input(plan.spec.InputField());
  const std::string most = absl::StrCat("at most ", limits.max_flops, " FLOPs a call");
  if (plan.flops > limits.max_flops) {
    exceeded.push_back({input, absl::StrCat(plan.flops, " FLOPs"), most});
  } else if (plan.flops + plan.map_flops > limits.max_flops) {
    exceeded.push_back({"outputs.maps", absl::StrCat(plan.flops + plan.map_flops, " FLOPs with all maps"), most});
  }
  const std::int64_t workspace = plan.WorkspaceTotal(1);
  if (workspace > limits.max_workspace_bytes) {
    const bool grid = plan.bytes.grid > limits.max_workspace_bytes / 2;
    exceeded.push_back({grid ? "options.algorithm" : input, absl::StrCat(workspace, " bytes of workspace"),
                        absl::StrCat("at most ", limits.max_workspace_bytes, grid ? " (flash needs no grid)" : "")});
  }
  if (plan.response_bytes > plan.spec.outputs.max_response_bytes) {
    exceeded.push_back(TooLarge("outputs", plan.response_bytes, plan.spec.outputs.max_response_bytes));
  }
  return exceeded;
}

absl::Status ResponseTooLarge(absl::string_view field, std::int64_t bytes, std::int64_t limit_bytes) {
  const Violation v = TooLarge(field, bytes, limit_bytes);
  ErrorDetails details;
  details.reason = ErrorReason::kResponseTooLarge;
  details.violations = {v};
  details.violation_count = 1;
  details.metadata["limit_bytes"] = absl::StrCat(limit_bytes);
  details.metadata["response_bytes"] = absl::StrCat(bytes);
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(v.field, ": got ", v.got, ", expected ", v.expected), details);
}

absl::StatusOr<ExecutionPlan> MakePlan(ProblemSpec checked, const Limits& limits, Processor processor) {
  ExecutionPlan plan = DraftPlan(std::move(checked), processor);
  const std::vector<Violation> exceeded = ExceededLimits(plan, limits);
  if (exceeded.empty()) return plan;
  // An answer that is too large is told by itself: only then nothing but `outputs` has to change.
  if (exceeded.front().field != "outputs") {
    Violations violations;
    for (const Violation& v : exceeded) {
      if (v.field != "outputs") violations.AddTooExpensive(v.field, v.got, v.expected);
    }
    return violations.ToStatus();
  }
  return ResponseTooLarge(exceeded.front().field, plan.response_bytes, plan.spec.outputs.max_response_bytes);
}

namespace {

// What the double reference takes: keys and values once, and each row.
struct ReferenceCost {
  std::int64_t fixed = 0;
  std::int64_t row = 0;
};

ReferenceCost CostOfReference(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  const std::int64_t rows = d.batch * d.query_tokens;
  ReferenceCost cost;
  if (spec.projection.has_value()) {
    const ProjectionSpec& p = *spec.projection;
    cost.fixed = 2 * d.batch * d.key_tokens * p.context_width * d.key_value_heads * (d.head_size + d.value_head_size);
    cost.row = (ProjectionFlops(spec) - cost.fixed) / rows;
  }
  cost.row += 2 * MaskRules(spec).VisiblePairs() * d.query_heads * (d.head_size + d.value_head_size) / rows;
  return cost;
}

absl::Status TooExpensive(absl::string_view field, std::int64_t flops, const Limits& limits) {
  Violations violations;
  violations.AddTooExpensive(std::string(field), absl::StrCat(flops, " FLOPs in double precision"),
                             absl::StrCat("at most ", limits.max_reference_flops));
  return violations.ToStatus();
}

}  // namespace

absl::StatusOr<ReferencePlan> PlanReference(const ProblemSpec& spec, const Limits& limits) {
  const ReferenceCost cost = CostOfReference(spec);
  if (cost.fixed > limits.max_reference_flops) return TooExpensive(spec.InputField(), cost.fixed, limits);
  ReferencePlan plan;
  plan.rows_total = spec.dims.batch * spec.dims.query_tokens;
  const std::int64_t left = std::max<std::int64_t>(kReferenceFlops - cost.fixed, 0);
  plan.rows = std::clamp<std::int64_t>(left / std::max<std::int64_t>(cost.row, 1), 1, plan.rows_total);
  plan.flops = cost.fixed + plan.rows * cost.row;
  return plan;
}

absl::StatusOr<ReferencePlan> PlanVerification(const ProblemSpec& spec, const Limits& limits) {
  const ReferenceCost cost = CostOfReference(spec);
  ReferencePlan plan;
  plan.rows_total = spec.dims.batch * spec.dims.query_tokens;
  plan.rows = std::min(spec.outputs.verify_rows, plan.rows_total);
  plan.flops = cost.fixed + plan.rows * cost.row;
  if (plan.flops > limits.max_reference_flops) return TooExpensive("outputs.verify_rows", plan.flops, limits);
  return plan;
}

}  // namespace headlight
