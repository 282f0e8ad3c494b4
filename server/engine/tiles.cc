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
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// What a row has seen among the scores that count, with allow_non_finite: nothing strange, or NaN or +inf, which make
// the whole row NaN. A score of -inf is a weight of 0, as where a mask says it.
constexpr float kSound = 0;
constexpr float kSawNaN = 1;

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
  // A window's first key is where tiles begin: at a multiple, so that few shapes and alignments occur.
  Range keys = call.rules.VisibleKeys(batch, rows);
  keys.begin = keys.begin / kTailKeys * kTailKeys;
  return {batch, task / blocks % d.query_heads, rows, RoundUp(rows.size(), kTailRows), keys};
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
  norms_ = reinterpret_cast<RowNorm*>(sums_ + tile.query_rows);
  flaws_ = sums_ + 3 * tile.query_rows;
}

void Tiles::Start(const QueryBlock& block) {
  const ProblemSpec& spec = call_.spec();
  const std::int64_t size = spec.dims.head_size;
  const bool rotary = spec.position.kind == PositionKind::kRotary;
  for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
    float* out = query_ + (row - block.rows.begin) * size;
    WidenRow(call_.query.kind, call_.query.At(block.batch, block.head, row), out, size);
    if (rotary) call_.query_rotary.Turn(call_.QueryRow(block.batch, row), out);
    if (spec.precision == ComputePrecision::kBFloat16) RoundRowToBF16(out, size);
    ScaleRow(out, size, static_cast<float>(spec.scale));
  }
  std::fill(query_ + block.rows.size() * size, query_ + block.padded_rows * size, 0.0F);
  std::fill(output_.data, output_.Row(block.padded_rows), 0.0F);
  std::fill(largest_, largest_ + block.padded_rows, kNothing);
  std::fill(sums_, sums_ + block.padded_rows, 0.0F);
  std::fill(flaws_, flaws_ + block.padded_rows, kSound);
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

Matrix<float> Tiles::View(const QueryBlock& block, Range keys) const {
  return {scores_.data, block.rows.size(), keys.size(), scores_.stride};
}

absl::Status Tiles::Multiply(const QueryBlock& block, Range keys) {
  const std::int64_t size = call_.dims().head_size;
  const Matrix<const float> rows = LoadRows(block, call_.key, keys, size, key_padding_);
  const MatmulShape shape{block.padded_rows, rows.rows, size, size, rows.stride, scores_.stride, true, false};
  return call_.matmuls.Run(shape, query_, rows.data, scores_.data);
}

void Tiles::Softcap(const QueryBlock& block, Range keys) {
  const auto cap = static_cast<float>(call_.spec().softcap);
  for (std::int64_t r = 0; cap > 0 && r < block.rows.size(); ++r) SoftcapRow(scores_.Row(r), keys.size(), cap);
}

void Tiles::AddAlibiBias(const QueryBlock& block, Range keys) {
  const PositionSpec& spec = call_.spec().position;
  if (spec.kind != PositionKind::kAlibi) return;
  if (spec.query_positions.empty()) return AddAlibi(spec, block.head, block.rows, keys, View(block, keys));
  const Dimensions& d = call_.dims();
  const std::int64_t* key_positions =
      spec.key_positions.data() + PositionSpec::Place(spec.key_positions, block.batch, keys.begin, d.key_tokens);
  for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
    AddAlibiRow(spec.slopes[static_cast<std::size_t>(block.head)], spec.QueryAt(block.batch, row, d.query_tokens),
                key_positions, keys.size(), scores_.Row(row - block.rows.begin));
  }
}

absl::Status Tiles::CheckFinite(const Tile& tile, const Matrix<float>& scores) {
  for (std::int64_t r = 0; r < scores.rows; ++r) {
    const float* row = scores.Row(r);
    for (std::int64_t j = FirstNonFinite(row, scores.cols); j < scores.cols; ++j) {
      const std::int64_t query = tile.rows.begin + r;
      const std::int64_t key = tile.keys.begin + j;
      if (std::isfinite(row[j]) || !call_.rules.Allows(tile.batch, tile.head, query, key)) continue;
      if (!call_.spec().allow_non_finite) {
        return Overflow(call_.spec().InputField(), "a score", {tile.batch, tile.head, query, key});
      }
      if (row[j] != kNothing) flaws_[r] = kSawNaN;
    }
  }
  return absl::OkStatus();
}

void Tiles::CleanFlawed(const Matrix<float>& scores) {
  for (std::int64_t r = 0; r < scores.rows; ++r) {
    float* row = scores.Row(r);
    for (std::int64_t j = 0; j < scores.cols; ++j) {
      if (std::isfinite(row[j]) || row[j] == kNothing) continue;
      flaws_[r] = kSawNaN;
      row[j] = kNothing;
    }
  }
}

absl::StatusOr<bool> Tiles::Score(const QueryBlock& block, Range keys) {
  const Tile tile{block.batch, block.head, block.rows, keys};
  const Verdict verdict = call_.rules.Judge(tile);
  if (verdict == Verdict::kEmpty) return false;
  if (absl::Status status = Multiply(block, keys); !status.ok()) return status;
  Softcap(block, keys);
  AddAlibiBias(block, keys);
  const Matrix<float> scores = View(block, keys);
  if (absl::Status status = CheckFinite(tile, scores); !status.ok()) return status;
  const bool ieee = call_.spec().allow_non_finite;
  if (verdict == Verdict::kPartial && !call_.rules.Apply(tile, scores) && !ieee) {
    return Overflow("options.mask.tensor", "a score with its mask", {block.batch, block.head, block.rows.begin});
  }
  if (!call_.sinks.empty() && SinksWant(block)) {
    const SinkTimer timer(lane_);
    const Matrix<const float> values{scores.data, scores.rows, scores.cols, scores.stride};
    const ScoreBlock seen{block.batch, block.head, block.rows, keys, values, call_.rules};
    for (ScoreSink* sink : call_.sinks) {
      if (sink->Wants(block.batch, block.head, block.rows)) sink->OnScores(seen);
    }
  }
  if (ieee) CleanFlawed(scores);
  return true;
}

absl::Status Tiles::Show(const QueryBlock& block, Range keys, MapStage stage) {
  const Tile tile{block.batch, block.head, block.rows, keys};
  const Matrix<float> scores = View(block, keys);
  const Verdict verdict = IsRaw(stage) ? Verdict::kFull : call_.rules.Judge(tile);
  if (verdict == Verdict::kEmpty) {
    const float nothing = stage == MapStage::kWeights ? 0 : kNothing;
    for (std::int64_t r = 0; r < scores.rows; ++r) std::fill_n(scores.Row(r), scores.cols, nothing);
    return absl::OkStatus();
  }
  if (absl::Status status = Multiply(block, keys); !status.ok()) return status;
  if (stage != MapStage::kScaled) Softcap(block, keys);
  if (IsRaw(stage)) return absl::OkStatus();
  AddAlibiBias(block, keys);
  // What would overflow here did so while attention ran.
  if (verdict == Verdict::kPartial) (void)call_.rules.Apply(tile, scores);
  if (stage != MapStage::kWeights) return absl::OkStatus();
  const Dimensions& d = call_.dims();
  const std::int64_t first = (block.batch * d.query_heads + block.head) * d.query_tokens + block.rows.begin;
  for (std::int64_t r = 0; r < scores.rows; ++r) {
    WeightsFromScores(scores.Row(r), scores.cols, call_.norms.data()[first + r]);
  }
  return absl::OkStatus();
}

Matrix<const float> Tiles::WithoutNonFinite(const Matrix<const float>& rows) {
  const std::int64_t size = rows.cols;
  for (std::int64_t j = 0; j < rows.rows; ++j) {
    float* out = value_padding_ + j * size;
    for (std::int64_t c = 0; c < size; ++c) out[c] = std::isfinite(rows.Row(j)[c]) ? rows.Row(j)[c] : 0.0F;
  }
  return {value_padding_, rows.rows, size, size};
}

void Tiles::BlendNonFinite(const QueryBlock& block, Range keys) {
  const std::int64_t size = call_.dims().value_head_size;
  const std::int64_t head = call_.dims().KeyValueHead(block.head);
  for (std::int64_t key = keys.begin; key < keys.end; ++key) {
    const float* values = call_.value.FloatsAt(block.batch, head, key);
    if (FirstNonFinite(values, size) == size) continue;
    for (std::int64_t r = 0; r < block.rows.size(); ++r) {
      if (!call_.rules.Allows(block.batch, block.head, block.rows.begin + r, key)) continue;
      const float weight = scores_.Row(r)[key - keys.begin];
      for (std::int64_t c = 0; c < size; ++c) {
        if (!std::isfinite(values[c])) output_.Row(r)[c] += weight * values[c];
      }
    }
  }
}

absl::Status Tiles::Blend(const QueryBlock& block, Range keys) {
  if (call_.targets.empty()) return absl::OkStatus();
  const std::int64_t size = call_.dims().value_head_size;
  Matrix<const float> rows = LoadRows(block, call_.value, keys, size, value_padding_);
  if (call_.spec().precision == ComputePrecision::kBFloat16) {
    for (std::int64_t r = 0; r < block.padded_rows; ++r) RoundRowToBF16(scores_.Row(r), rows.rows);
  }
  bool flawed = false;
  for (std::int64_t j = 0; call_.spec().allow_non_finite && !flawed && j < rows.rows; ++j) {
    flawed = FirstNonFinite(rows.Row(j), size) < size;
  }
  if (flawed) rows = WithoutNonFinite(rows);
  const MatmulShape shape{block.padded_rows, size, rows.rows, scores_.stride, rows.stride, size, false, true};
  absl::Status status = call_.matmuls.Run(shape, scores_.data, rows.data, output_.data);
  if (flawed) BlendNonFinite(block, keys);
  return status;
}

Tiles::RowEnd Tiles::EndOf(const QueryBlock& block, std::int64_t r) const {
  const float sum = sums_[r];
  if (flaws_[r] == kSawNaN) return {{kNaN, kNaN}, kNaN};
  if (sum == 0) return {{kNothing, 0}, kNothing};
  const float log_sum_exp = largest_[r] + std::log(sum);
  const std::vector<float>& sinks = call_.spec().sinks;
  if (sinks.empty()) return {{largest_[r], 1 / sum}, log_sum_exp};
  // A sink is one more logit in the denominator, and copies nothing.
  const float sink = sinks[static_cast<std::size_t>(block.head)];
  const float most = std::max(largest_[r], sink);
  const float mine = std::exp(largest_[r] - most);
  return {{largest_[r], mine / (sum * mine + std::exp(sink - most))}, log_sum_exp};
}

absl::Status Tiles::WriteRow(const QueryBlock& block, std::int64_t r, float factor) {
  const std::int64_t size = call_.dims().value_head_size;
  const std::vector<float>& gains = call_.spec().head_gains;
  const float gain = gains.empty() ? 1 : gains[static_cast<std::size_t>(block.head)];
  const std::int64_t row = block.rows.begin + r;
  float* out = output_.Row(r);
  // Switched off is off: not 0 x NaN.
  gain == 0 ? static_cast<void>(std::fill_n(out, size, 0.0F)) : ScaleRow(out, size, factor * gain);
  if (const std::int64_t c = FirstNonFinite(out, size); c < size && !call_.spec().allow_non_finite) {
    return Overflow(call_.spec().InputField(), "a sum of weighted values", {block.batch, block.head, row, c});
  }
  for (const HeadsTarget& target : call_.targets) {
    NarrowRow(target.where.kind, out, target.At(block.batch, block.head, row), size);
  }
  return absl::OkStatus();
}

absl::Status Tiles::Finish(const QueryBlock& block) {
  const Dimensions& d = call_.dims();
  const std::int64_t first = (block.batch * d.query_heads + block.head) * d.query_tokens + block.rows.begin;
  for (std::int64_t r = 0; r < block.rows.size(); ++r) {
    const RowEnd end = EndOf(block, r);
    if (!call_.log_sum_exp.empty()) call_.log_sum_exp.floats()[first + r] = end.log_sum_exp;
    if (!call_.norms.empty()) call_.norms.data()[first + r] = end.norm;
    norms_[r] = end.norm;
    if (call_.targets.empty()) continue;
    if (absl::Status status = WriteRow(block, r, end.norm.factor); !status.ok()) return status;
  }
  if (call_.sinks.empty()) return absl::OkStatus();
  const SinkTimer timer(lane_);
  for (ScoreSink* sink : call_.sinks) {
    if (sink->Wants(block.batch, block.head, block.rows)) {
      sink->OnRowsDone({block.batch, block.head, block.rows, norms_});
    }
  }
  return absl::OkStatus();
}

}  // namespace headlight
