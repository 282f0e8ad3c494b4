#include "server/engine/tiles.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/time/clock.h"
#include "server/engine/overflow.h"
#include "server/engine/products.h"
#include "server/kernels/convert.h"
#include "server/kernels/rows.h"
#include "server/kernels/softmax.h"
#include "server/positions/additive.h"

namespace headlight {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

constexpr std::size_t kMostRows = 128;  // of one stack of heads: what the planner's tiles have

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

// Query rows of one head in a tile.
std::int64_t RowsOf(const CallState& call) { return std::min(call.plan.tile.query_rows, call.dims().query_tokens); }

}  // namespace

std::int64_t QueryBlocks(const CallState& call) {
  const Dimensions& d = call.dims();
  const TileHeads heads = call.plan.tile_heads;
  const std::int64_t stacks = CeilDiv(d.query_heads / d.key_value_heads, heads.group);
  return d.batch * CeilDiv(d.key_value_heads, heads.key_value_heads) * stacks * CeilDiv(d.query_tokens, RowsOf(call));
}

QueryBlock QueryBlockOf(const CallState& call, std::int64_t task) {
  const Dimensions& d = call.dims();
  const TileHeads heads = call.plan.tile_heads;
  const std::int64_t height = RowsOf(call);
  const std::int64_t per_head = CeilDiv(d.query_tokens, height);
  QueryBlock block;
  block.heads_per_group = d.query_heads / d.key_value_heads;
  const std::int64_t stacks = CeilDiv(block.heads_per_group, heads.group);
  const std::int64_t side_by_side = CeilDiv(d.key_value_heads, heads.key_value_heads);
  const std::int64_t of_rows = stacks * side_by_side;  // blocks of the same rows
  const std::int64_t within = task % (of_rows * per_head);
  const std::int64_t begin = (call.RowsOutermost() ? within / of_rows : within % per_head) * height;
  std::int64_t of_heads = call.RowsOutermost() ? within % of_rows : within / per_head;
  block.rows = {begin, std::min(begin + height, d.query_tokens)};
  block.first_in_group = of_heads % stacks * heads.group;
  block.group = std::min(heads.group, block.heads_per_group - block.first_in_group);
  of_heads /= stacks;
  block.key_value_head = of_heads * heads.key_value_heads;
  block.key_value_heads = std::min(heads.key_value_heads, d.key_value_heads - block.key_value_head);
  block.batch = task / (of_rows * per_head);
  // A window's first key is where tiles begin: at a multiple, so that few shapes and alignments occur.
  block.keys = call.rules.VisibleKeys(block.batch, block.rows);
  block.keys.begin = block.keys.begin / kTailKeys * kTailKeys;
  return block;
}

QueryBlock OneHeadBlock(const CallState& call, std::int64_t batch, std::int64_t head, Range rows, Range keys) {
  QueryBlock block;
  block.batch = batch;
  block.heads_per_group = call.dims().query_heads / call.dims().key_value_heads;
  block.key_value_head = head / block.heads_per_group;
  block.first_in_group = head % block.heads_per_group;
  block.rows = rows;
  block.keys = keys;
  return block;
}

Tiles::Tiles(CallState& call, Lane& lane) : call_(call), lane_(lane) {
  const Dimensions& d = call.dims();
  const TileSize tile = call.plan.tile;
  const std::int64_t rows = tile.query_rows * call.plan.tile_heads.key_value_heads;
  const std::int64_t keys = tile.keys * call.plan.tile_heads.key_value_heads + 1;
  bases_ = reinterpret_cast<std::int64_t*>(lane.scratch);  // first: they need 8 bytes' alignment
  query_ = lane.scratch + 2 * rows;
  float* next = query_ + rows * d.head_size;
  scores_ = {next, rows, tile.keys, tile.keys};
  next += rows * tile.keys;
  output_ = {next, rows, d.value_head_size, d.value_head_size};
  next += rows * d.value_head_size;
  key_room_ = next;
  value_room_ = key_room_ + keys * d.head_size;
  largest_ = value_room_ + keys * d.value_head_size;
  sums_ = largest_ + rows;
  norms_ = reinterpret_cast<RowNorm*>(sums_ + rows);
  flaws_ = sums_ + 3 * rows;
}

void Tiles::Start(const QueryBlock& block) {
  const ProblemSpec& spec = call_.spec();
  const std::int64_t size = spec.dims.head_size;
  const bool rotary = spec.position.kind == PositionKind::kRotary;
  const bool bf16 = call_.plan.bf16_products;
  auto* halves = reinterpret_cast<std::uint16_t*>(query_);
  const std::int64_t rows = block.rows.size();
  const auto make = [&](const TilePart& part, std::int64_t r) {
    const std::int64_t token = block.rows.begin + r;
    const std::byte* given = call_.query.At(block.batch, part.head, token);
    const std::int64_t at = (part.tile_row + r) * size;
    if (bf16 && call_.query.kind == TensorKind::kBF16 && !rotary) {
      std::memcpy(halves + at, given, static_cast<std::size_t>(2 * size));
      return;
    }
    // Narrowed rows are made beyond where they will lie.
    float* out = bf16 ? key_room_ : query_ + at;
    WidenRow(call_.query.kind, given, out, size);
    if (rotary) call_.query_rotary.Turn(call_.QueryRow(block.batch, token), out);
    if (bf16) return NarrowRow(TensorKind::kBF16, out, reinterpret_cast<std::byte*>(halves + at), size);
    if (spec.precision == ComputePrecision::kBFloat16) RoundRowToBF16(out, size);
    ScaleRow(out, size, static_cast<float>(spec.scale));
  };
  for (std::int64_t i = 0; i < block.parts(); ++i) {
    for (std::int64_t r = 0; r < rows; ++r) make(block.Part(i), r);
  }
  const std::int64_t padded = block.padded_rows();
  for (std::int64_t stack = 0; stack < block.key_value_heads; ++stack) {
    const std::int64_t from = (stack * padded + block.stack_rows()) * size;
    const std::int64_t to = (stack + 1) * padded * size;
    bf16 ? std::fill(halves + from, halves + to, std::uint16_t{0}) : std::fill(query_ + from, query_ + to, 0.0F);
  }
  if (bf16 && QueryCarriesScale(call_)) ScaleHalves(halves, block.key_value_heads * padded * size);
  const std::int64_t all = block.tile_rows();
  std::fill(output_.data, output_.Row(all), 0.0F);
  std::fill(largest_, largest_ + all, kNothing);
  std::fill(sums_, sums_ + all, 0.0F);
  std::fill(flaws_, flaws_ + all, kSound);
  if (spec.position.kind != PositionKind::kAlibi) return;
  for (std::int64_t i = 0; i < block.parts(); ++i) {
    const TilePart part = block.Part(i);
    const Dimensions& d = call_.dims();
    const std::int64_t first = (block.batch * d.query_heads + part.head) * d.query_tokens + block.rows.begin;
    std::copy_n(call_.alibi_bases.data() + first, rows, bases_ + part.tile_row);
  }
}

void Tiles::ScaleHalves(std::uint16_t* halves, std::int64_t count) {
  const std::int64_t room = call_.plan.tile.keys * call_.dims().head_size;
  for (std::int64_t at = 0; at < count; at += room) {
    const std::int64_t n = std::min(room, count - at);
    auto* bytes = reinterpret_cast<std::byte*>(halves + at);
    WidenRow(TensorKind::kBF16, bytes, key_room_, n);
    ScaleRow(key_room_, n, static_cast<float>(call_.spec().scale));
    NarrowRow(TensorKind::kBF16, key_room_, bytes, n);
  }
}

Tiles::Rows Tiles::LoadRows(const QueryBlock& block, const KeyValueRows& from, Range keys, float* room) const {
  const std::int64_t size = from.size;
  const std::int64_t padded = RoundUp(keys.size(), kTailKeys);
  if (const std::byte* tile = PackedTile(call_, from, block.batch, block.key_value_head, keys);
      tile != nullptr && block.key_value_heads == 1) {
    return {tile, from.where.token_stride, 0, true};
  }
  if (from.ready && padded == keys.size()) {
    return {from.where.At(block.batch, block.key_value_head, keys.begin), from.where.token_stride,
            from.where.head_stride};
  }
  const std::int64_t width = call_.plan.bf16_products ? 2 : 4;
  auto* const begin = reinterpret_cast<std::byte*>(room);
  std::byte* out = begin;
  for (std::int64_t stack = 0; stack < block.key_value_heads; ++stack) {
    for (std::int64_t key = keys.begin; key < keys.end; ++key, out += size * width) {
      // A row of bfloat16 may begin between two floats; it is made at the next one.
      const std::int64_t off = (out - begin) % std::int64_t{sizeof(float)};
      call_.MakeRow(from, block.batch, block.key_value_head + stack, key, reinterpret_cast<float*>(out + off), out);
    }
    const std::int64_t tail = (padded - keys.size()) * size * width;
    std::memset(out, 0, static_cast<std::size_t>(tail));
    out += tail;
  }
  return {room, size, padded * size};
}

void Tiles::SpreadOverHeads(const QueryBlock& block, const Rows& rows, MatmulShape& shape) {
  shape.packed_b = rows.packed;
  if (block.key_value_heads == 1) return;
  shape.batch = block.key_value_heads;
  shape.a_step = shape.m * shape.lda;
  shape.b_step = rows.step;
  shape.c_step = shape.m * shape.ldc;
}

Matrix<float> Tiles::View(const TilePart& part, Range rows, Range keys) const {
  return {scores_.Row(part.tile_row), rows.size(), keys.size(), scores_.stride};
}

absl::Status Tiles::Multiply(const QueryBlock& block, Range keys) {
  const Rows rows = LoadRows(block, call_.key, keys, key_room_);
  MatmulShape shape = ScoreProduct(call_, block.padded_rows(), RoundUp(keys.size(), kTailKeys), rows.stride);
  SpreadOverHeads(block, rows, shape);
  return call_.matmuls.Run(shape, query_, rows.data, scores_.data);
}

void Tiles::Softcap(const QueryBlock& block, Range keys) {
  const auto cap = static_cast<float>(call_.spec().softcap);
  for (std::int64_t r = 0; cap > 0 && r < block.tile_rows(); ++r) SoftcapRow(scores_.Row(r), keys.size(), cap);
}

void Tiles::AddAlibiBias(const QueryBlock& block, const TilePart& part, Range keys, const std::int64_t* bases) {
  const PositionSpec& spec = call_.spec().position;
  if (spec.kind != PositionKind::kAlibi) return;
  const Matrix<float> scores = View(part, block.rows, keys);
  const Dimensions& d = call_.dims();
  const float slope = spec.slopes[static_cast<std::size_t>(part.head)];
  for (std::int64_t r = 0; r < block.rows.size(); ++r) {
    const std::int64_t position = spec.QueryAt(block.batch, block.rows.begin + r, d.query_tokens);
    const std::int64_t base = bases == nullptr ? 0 : bases[part.tile_row + r];
    if (spec.key_positions.empty()) {
      AddAlibi(slope, position, spec.key_offset + keys.begin, keys.size(), base, scores.Row(r));
    } else {
      const std::int64_t place = PositionSpec::Place(spec.key_positions, block.batch, keys.begin, d.key_tokens);
      AddAlibiAt(slope, position, spec.key_positions.data() + place, keys.size(), base, scores.Row(r));
    }
  }
}

double Tiles::AlibiShift(std::int64_t head, std::int64_t tile_row) const {
  const PositionSpec& spec = call_.spec().position;
  if (spec.kind != PositionKind::kAlibi) return 0;
  return static_cast<double>(spec.slopes[static_cast<std::size_t>(head)]) * static_cast<double>(bases_[tile_row]);
}

absl::Status Tiles::Mask(const Tile& tile, const Matrix<float>& scores) {
  if (call_.rules.Apply(tile, scores) || call_.spec().allow_non_finite) return absl::OkStatus();
  return Overflow("options.mask.tensor", "a score with its mask", {tile.batch, tile.head, tile.rows.begin});
}

void Tiles::TellSinks(const QueryBlock& block, const TilePart& part, Range keys) {
  const SinkTimer timer(lane_);
  const Matrix<float> scores = View(part, block.rows, keys);
  const Matrix<const float> values{scores.data, scores.rows, scores.cols, scores.stride};
  const ScoreBlock seen{block.batch, part.head, block.rows, keys, values, call_.rules};
  for (ScoreSink* sink : call_.sinks) {
    if (sink->Wants(block.batch, part.head, block.rows)) sink->OnScores(seen);
  }
}

absl::StatusOr<Verdict> Tiles::ScoreBut(LeftOut left_out, const QueryBlock& block, Range keys) {
  const bool ieee = call_.spec().allow_non_finite;
  // What heads may see differs by a mask tensor alone, and that makes every tile partial.
  const Verdict verdict = call_.rules.Judge({block.batch, block.Part(0).head, block.rows, keys});
  if (verdict == Verdict::kEmpty) return verdict;
  SetKeys(keys);
  if (absl::Status status = Multiply(block, keys); !status.ok()) return status;
  Softcap(block, keys);
  for (std::int64_t i = 0; i < block.parts(); ++i) {
    const TilePart part = block.Part(i);
    const Tile tile{block.batch, part.head, block.rows, keys};
    const Matrix<float> scores = View(part, block.rows, keys);
    float* flaws = flaws_ + part.tile_row;
    AddAlibiBias(block, part, keys, bases_);
    if (left_out == LeftOut::kMask) continue;
    if (left_out != LeftOut::kCheckOfFull || verdict != Verdict::kFull) {
      if (absl::Status status = CheckFinite(tile, scores, flaws); !status.ok()) return status;
    }
    if (verdict == Verdict::kPartial) {
      if (absl::Status status = Mask(tile, scores); !status.ok()) return status;
    }
    if (left_out != LeftOut::kSinks && !call_.sinks.empty()) TellSinks(block, part, keys);
    if (ieee) CleanFlawed(scores, flaws);
  }
  return verdict;
}

absl::StatusOr<bool> Tiles::Score(const QueryBlock& block, Range keys) {
  const absl::StatusOr<Verdict> verdict = ScoreBut(LeftOut::kNothing, block, keys);
  if (!verdict.ok()) return verdict.status();
  return *verdict != Verdict::kEmpty;
}

absl::StatusOr<bool> Tiles::Weigh(const QueryBlock& block, Range keys) {
  const bool ieee = call_.spec().allow_non_finite;
  // Also where sinks want masked scores: what they do must not change the output's bits.
  const bool ranges = call_.rules.AreRanges();
  LeftOut left_out = ranges && call_.sinks.empty() ? LeftOut::kMask : LeftOut::kCheckOfFull;
  if (ieee) left_out = LeftOut::kNothing;
  const absl::StatusOr<Verdict> verdict = ScoreBut(left_out, block, keys);
  if (!verdict.ok()) return verdict.status();
  if (*verdict == Verdict::kEmpty) return false;
  SoftmaxTile tile;
  tile.rows = block.stack_rows();
  tile.keys = keys.size();
  tile.padded = scores_.stride;
  tile.size = output_.cols;
  tile.precision = call_.plan.bf16_products                                ? WeightPrecision::kBF16
                   : call_.spec().precision == ComputePrecision::kBFloat16 ? WeightPrecision::kRoundedToBF16
                                                                           : WeightPrecision::kF32;
  tile.masked = ieee || (!ranges && *verdict == Verdict::kPartial);
  std::array<KeySpan, kMostRows> seen;
  if (ranges && *verdict == Verdict::kPartial) {
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      const Range by_rule = call_.rules.RowKeys(block.batch, block.rows.begin + r % block.rows.size());
      KeySpan& span = seen[static_cast<std::size_t>(r)];
      span.begin = std::clamp(by_rule.begin, keys.begin, keys.end) - keys.begin;
      span.end = std::max(std::clamp(by_rule.end, keys.begin, keys.end) - keys.begin, span.begin);
    }
    tile.seen = seen.data();
  }
  for (std::int64_t stack = 0; stack < block.key_value_heads; ++stack) {
    const std::int64_t first = stack * block.padded_rows();
    tile.scores = scores_.Row(first);
    tile.halves = HalvesOf(first);
    tile.largest = largest_ + first;
    tile.sums = sums_ + first;
    tile.output = output_.Row(first);
    if (OnlineSoftmax(tile) == tile.rows) continue;
    // Once more, to say which.
    const absl::Status status = ScoreBut(LeftOut::kSinks, block, keys).status();
    return status.ok() ? absl::InternalError("a score is not finite, and then it is") : status;
  }
  return true;
}

absl::Status Tiles::Show(const QueryBlock& block, Range keys, MapStage stage) {
  SetKeys(keys);
  const TilePart part = block.Part(0);
  const Tile tile{block.batch, part.head, block.rows, keys};
  const Matrix<float> scores = View(part, block.rows, keys);
  const Verdict verdict = IsRaw(stage) ? Verdict::kFull : call_.rules.Judge(tile);
  if (verdict == Verdict::kEmpty) {
    const float nothing = stage == MapStage::kWeights ? 0 : kNothing;
    for (std::int64_t r = 0; r < scores.rows; ++r) std::fill_n(scores.Row(r), scores.cols, nothing);
    return absl::OkStatus();
  }
  if (absl::Status status = Multiply(block, keys); !status.ok()) return status;
  if (stage != MapStage::kScaled) Softcap(block, keys);
  if (IsRaw(stage)) return absl::OkStatus();
  AddAlibiBias(block, part, keys, stage == MapStage::kWeights ? bases_ : nullptr);
  // What would overflow here did so while attention ran.
  if (verdict == Verdict::kPartial) (void)call_.rules.Apply(tile, scores);
  if (stage != MapStage::kWeights) return absl::OkStatus();
  const Dimensions& d = call_.dims();
  const std::int64_t first = (block.batch * d.query_heads + part.head) * d.query_tokens + block.rows.begin;
  for (std::int64_t r = 0; r < scores.rows; ++r) {
    WeightsFromScores(scores.Row(r), scores.cols, call_.norms.data()[first + r]);
  }
  return absl::OkStatus();
}

void Tiles::NarrowWeights(const QueryBlock& block) {
  if (call_.spec().precision != ComputePrecision::kBFloat16) return;
  const std::int64_t count = block.tile_rows() * scores_.stride;
  if (call_.plan.bf16_products) {
    NarrowRow(TensorKind::kBF16, scores_.data, reinterpret_cast<std::byte*>(scores_.data), count);
  } else {
    RoundRowToBF16(scores_.data, count);
  }
}

absl::Status Tiles::BlendValues(const QueryBlock& block, Range keys, const Rows& values) {
  MatmulShape shape = BlendProduct(call_, block.padded_rows(), RoundUp(keys.size(), kTailKeys), values.stride);
  SpreadOverHeads(block, values, shape);
  return call_.matmuls.Run(shape, scores_.data, values.data, output_.data);
}

absl::Status Tiles::Blend(const QueryBlock& block, Range keys) {
  if (call_.targets.empty()) return absl::OkStatus();
  Rows values = LoadRows(block, call_.value, keys, value_room_);
  const bool flawed = call_.spec().allow_non_finite && ZeroNonFinite(block, keys, values);
  absl::Status status = BlendValues(block, keys, values);
  for (std::int64_t i = 0; flawed && i < block.parts(); ++i) BlendNonFinite(block, block.Part(i), keys);
  return status;
}

Tiles::RowEnd Tiles::EndOf(std::int64_t head, std::int64_t tile_row) const {
  const float sum = sums_[tile_row];
  const float largest = largest_[tile_row];
  if (flaws_[tile_row] == kSawNaN) return {{kNaN, kNaN}, kNaN};
  if (sum == 0) return {{kNothing, 0}, kNothing};
  const double shift = AlibiShift(head, tile_row);  // by which the row's scores are above what they are
  const auto log_sum_exp =
      static_cast<float>(static_cast<double>(largest) + std::log(static_cast<double>(sum)) - shift);
  const std::vector<float>& sinks = call_.spec().sinks;
  if (sinks.empty()) return {{largest, 1 / sum}, log_sum_exp};
  // A sink is one more logit in the denominator, and copies nothing.
  const auto sink = static_cast<float>(static_cast<double>(sinks[static_cast<std::size_t>(head)]) + shift);
  const float most = std::max(largest, sink);
  const float mine = std::exp(largest - most);
  return {{largest, mine / (sum * mine + std::exp(sink - most))}, log_sum_exp};
}

absl::Status Tiles::WriteRow(const Tile& row, float* out, float factor) {
  const std::int64_t size = call_.dims().value_head_size;
  const std::vector<float>& gains = call_.spec().head_gains;
  const float gain = gains.empty() ? 1 : gains[static_cast<std::size_t>(row.head)];
  // Switched off is off: not 0 x NaN.
  gain == 0 ? static_cast<void>(std::fill_n(out, size, 0.0F)) : ScaleRow(out, size, factor * gain);
  if (const std::int64_t c = FirstNonFinite(out, size); c < size && !call_.spec().allow_non_finite) {
    return Overflow(call_.spec().InputField(), "a sum of weighted values", {row.batch, row.head, row.rows.begin, c});
  }
  for (const HeadsTarget& target : call_.targets) {
    NarrowRow(target.where.kind, out, target.At(row.batch, row.head, row.rows.begin), size);
  }
  return absl::OkStatus();
}

std::int64_t Tiles::PieceRows() const {
  constexpr std::int64_t kRows = 16;
  const auto sinks = static_cast<std::int64_t>(call_.sinks.size());
  return sinks == 0 ? call_.plan.tile.query_rows : std::max<std::int64_t>(1, kRows / sinks);
}

absl::Status Tiles::FinishPart(const QueryBlock& block, const TilePart& part, Range piece) {
  const Dimensions& d = call_.dims();
  const std::int64_t first = (block.batch * d.query_heads + part.head) * d.query_tokens + block.rows.begin;
  for (std::int64_t r = piece.begin; r < piece.end; ++r) {
    const RowEnd end = EndOf(part.head, part.tile_row + r);
    if (call_.log_sum_exp != nullptr) call_.log_sum_exp[first + r] = end.log_sum_exp;
    if (!call_.norms.empty()) call_.norms.data()[first + r] = end.norm;
    norms_[part.tile_row + r] = end.norm;
    if (call_.targets.empty()) continue;
    const std::int64_t row = block.rows.begin + r;
    const Tile place{block.batch, part.head, {row, row + 1}, {}};
    if (absl::Status status = WriteRow(place, output_.Row(part.tile_row + r), end.norm.factor); !status.ok()) {
      return status;
    }
  }
  const Range rows{block.rows.begin + piece.begin, block.rows.begin + piece.end};
  if (call_.watch != nullptr) call_.watch->listener->OnRows(block.batch, part.head, rows);
  if (call_.sinks.empty()) return absl::OkStatus();
  const SinkTimer timer(lane_);
  const std::int64_t at = part.tile_row + piece.begin;
  for (ScoreSink* sink : call_.sinks) {
    if (!sink->Wants(block.batch, part.head, rows)) continue;
    RowsDone done{block.batch, part.head, rows, norms_ + at};
    if (const PositionSpec& position = call_.spec().position; position.kind == PositionKind::kAlibi) {
      done.bases = bases_ + at;
      done.slope = position.slopes[static_cast<std::size_t>(part.head)];
    }
    sink->OnRowsDone(done);
  }
  return absl::OkStatus();
}

absl::Status Tiles::Finish(const QueryBlock& block, std::int64_t piece) {
  const std::int64_t begin = piece * PieceRows();
  const Range rows{begin, std::min(begin + PieceRows(), block.rows.size())};
  for (std::int64_t i = 0; i < block.parts(); ++i) {
    if (absl::Status status = FinishPart(block, block.Part(i), rows); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace headlight
