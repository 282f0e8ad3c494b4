#include "server/engine/tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/time/clock.h"
#include "server/engine/overflow.h"
#include "server/kernels/convert.h"
#include "server/kernels/rows.h"
#include "server/positions/additive.h"

namespace headlight {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Adds the time of its life to a lane's sink time.
class SinkTimer {
 public:
  explicit SinkTimer(Lane& lane) : lane_(lane), began_(absl::GetCurrentTimeNanos()) {}
  ~SinkTimer() { lane_.sink_seconds += static_cast<double>(absl::GetCurrentTimeNanos() - began_) * 1e-9; }
  SinkTimer(const SinkTimer&) = delete;
  SinkTimer& operator=(const SinkTimer&) = delete;

 private:
  Lane& lane_;
  std::int64_t began_;
};

}  // namespace

std::int64_t QueryBlocks(const CallState& call) {
  const Dimensions& d = call.dims();
  return d.batch * d.query_heads * CeilDiv(d.query_tokens, call.plan.tile.query_rows);
}

QueryBlock QueryBlockOf(const CallState& call, std::int64_t task) {
  const Dimensions& d = call.dims();
  const std::int64_t height = call.plan.tile.query_rows;
  const std::int64_t blocks = CeilDiv(d.query_tokens, height);
  const std::int64_t begin = task % blocks * height;
  const Range rows{begin, std::min(begin + height, d.query_tokens)};
  const std::int64_t batch = task / blocks / d.query_heads;
  return {batch, task / blocks % d.query_heads, rows, RoundUp(rows.size(), kTailRows),
          call.rules.VisibleKeys(batch, rows)};
}

Tiles::Tiles(CallState& call, Lane& lane) : call_(call), lane_(lane) {
  const Dimensions& d = call.dims();
  const TileSize tile = call.plan.tile;
  query_ = lane.scratch;
  float* next = query_ + tile.query_rows * d.head_size;
  scores_ = {next, tile.query_rows, tile.keys, tile.keys};
  next += tile.query_rows * tile.keys;
  output_ = {next, tile.query_rows, d.value_head_size, d.value_head_size};
  next += tile.query_rows * d.value_head_size;
  key_padding_ = next;
  value_padding_ = key_padding_ + tile.keys * d.head_size;
  largest_ = value_padding_ + tile.keys * d.value_head_size;
  sums_ = largest_ + tile.query_rows;
}

void Tiles::Start(const QueryBlock& block) {
  const ProblemSpec& spec = call_.spec();
  const std::int64_t size = spec.dims.head_size;
  const bool rotary = spec.position.kind == PositionKind::kRotary;
  for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
    float* out = query_ + (row - block.rows.begin) * size;
    WidenRow(call_.query.kind, call_.query.At(block.batch, block.head, row), out, size);
    if (rotary) call_.query_rotary.Turn(row, out);
    ScaleRow(out, size, static_cast<float>(spec.scale));
  }
  std::fill(query_ + block.rows.size() * size, query_ + block.padded_rows * size, 0.0F);
  std::fill(output_.data, output_.Row(block.padded_rows), 0.0F);
  std::fill(largest_, largest_ + block.padded_rows, kNothing);
  std::fill(sums_, sums_ + block.padded_rows, 0.0F);
}

Matrix<const float> Tiles::LoadRows(const QueryBlock& block, const HeadsView& heads, Range keys, std::int64_t size,
                                    float* padding) const {
  const std::int64_t head = call_.dims().KeyValueHead(block.head);
  const std::int64_t padded = block.padded(keys.size());
  if (padded == keys.size()) {
    return {heads.FloatsAt(block.batch, head, keys.begin), padded, size, heads.token_stride};
  }
  for (std::int64_t key = keys.begin; key < keys.end; ++key) {
    std::copy_n(heads.FloatsAt(block.batch, head, key), size, padding + (key - keys.begin) * size);
  }
  std::fill(padding + keys.size() * size, padding + padded * size, 0.0F);
  return {padding, padded, size, size};
}

bool Tiles::SinksWant(const QueryBlock& block) const {
  return std::any_of(call_.sinks.begin(), call_.sinks.end(),
                     [&block](const ScoreSink* sink) { return sink->Wants(block.batch, block.head, block.rows); });
}

absl::Status Tiles::CheckFinite(const Tile& tile, const Matrix<float>& scores) const {
  for (std::int64_t r = 0; r < scores.rows; ++r) {
    const float* row = scores.Row(r);
    for (std::int64_t j = FirstNonFinite(row, scores.cols); j < scores.cols; ++j) {
      const std::int64_t query = tile.rows.begin + r;
      const std::int64_t key = tile.keys.begin + j;
      if (std::isfinite(row[j]) || call_.rules.Bias(tile.batch, tile.head, query, key) == kNothing) continue;
      return Overflow(call_.spec().InputField(), "a score", {tile.batch, tile.head, query, key});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Tiles::Score(const QueryBlock& block, Range keys) {
  const Tile tile{block.batch, block.head, block.rows, keys};
  const Verdict verdict = call_.rules.Judge(tile);
  if (verdict == Verdict::kEmpty) return false;
  const std::int64_t size = call_.dims().head_size;
  const Matrix<const float> rows = LoadRows(block, call_.key, keys, size, key_padding_);
  const MatmulShape shape{block.padded_rows, rows.rows, size, size, rows.stride, scores_.stride, true, false};
  if (absl::Status status = call_.matmuls.Run(shape, query_, rows.data, scores_.data); !status.ok()) return status;
  const Matrix<float> scores{scores_.data, block.rows.size(), keys.size(), scores_.stride};
  if (call_.spec().position.kind == PositionKind::kAlibi) {
    AddAlibi(call_.spec().position, block.head, block.rows, keys, scores);
  }
  if (absl::Status status = CheckFinite(tile, scores); !status.ok()) return status;
  if (verdict == Verdict::kPartial && !call_.rules.Apply(tile, scores)) {
    return Overflow("options.mask.tensor", "a score with its mask", {block.batch, block.head, block.rows.begin});
  }
  if (!call_.sinks.empty() && SinksWant(block)) {
    const SinkTimer timer(lane_);
    const ScoreBlock seen{
        block.batch, block.head, block.rows, keys, {scores.data, scores.rows, scores.cols, scores.stride}};
    for (ScoreSink* sink : call_.sinks) {
      if (sink->Wants(block.batch, block.head, block.rows)) sink->OnScores(seen);
    }
  }
  return true;
}

absl::Status Tiles::Blend(const QueryBlock& block, Range keys) {
  const std::int64_t size = call_.dims().value_head_size;
  const Matrix<const float> rows = LoadRows(block, call_.value, keys, size, value_padding_);
  const MatmulShape shape{block.padded_rows, size, rows.rows, scores_.stride, rows.stride, size, false, true};
  return call_.matmuls.Run(shape, scores_.data, rows.data, output_.data);
}

absl::Status Tiles::Finish(const QueryBlock& block) {
  const std::int64_t size = call_.dims().value_head_size;
  for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
    const std::int64_t r = row - block.rows.begin;
    const float sum = sums_[r];
    float* out = output_.Row(r);
    ScaleRow(out, size, sum == 0 ? 0.0F : 1 / sum);
    if (const std::int64_t c = FirstNonFinite(out, size); c < size) {
      return Overflow(call_.spec().InputField(), "an output", {block.batch, block.head, row, c});
    }
    for (const HeadsTarget& target : call_.targets) {
      NarrowRow(target.where.kind, out, target.At(block.batch, block.head, row), size);
    }
    // From here on `largest` holds the log-sum-exp.
    largest_[r] = sum == 0 ? kNothing : largest_[r] + std::log(sum);
  }
  const Dimensions& d = call_.dims();
  if (!call_.log_sum_exp.empty()) {
    const std::int64_t first = (block.batch * d.query_heads + block.head) * d.query_tokens + block.rows.begin;
    std::copy_n(largest_, block.rows.size(), call_.log_sum_exp.floats() + first);
  }
  if (call_.sinks.empty()) return absl::OkStatus();
  const SinkTimer timer(lane_);
  for (ScoreSink* sink : call_.sinks) {
    if (sink->Wants(block.batch, block.head, block.rows)) {
      sink->OnRowsDone({block.batch, block.head, block.rows, largest_});
    }
  }
  return absl::OkStatus();
}

}  // namespace headlight
