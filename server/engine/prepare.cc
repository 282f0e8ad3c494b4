#include "server/engine/prepare.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "server/engine/fill.h"
#include "server/engine/linear.h"
#include "server/engine/products.h"
#include "server/kernels/convert.h"
#include "server/kernels/seeded.h"
#include "server/positions/additive.h"

namespace headlight {
namespace {

constexpr std::int64_t kPiece = std::int64_t{1} << 16;

const float* AsFloats(const TensorView& tensor) { return reinterpret_cast<const float*>(tensor.data); }

// Items first .. first + n - 1 of a tensor, widened to where they belong in `out`.
void Widen(const TensorView& tensor, std::int64_t first, std::int64_t n, float* out) {
  WidenRow(tensor.kind, tensor.data + first * WidthOf(tensor.kind), out + first, n);
}

bool AddsPositions(const ProblemSpec& spec) {
  return spec.position.kind == PositionKind::kSinusoidal || spec.position.kind == PositionKind::kLearned;
}

// Embeddings as float32 with positions added; in place where nothing is to be done.
void PrepareEmbeddings(CallState& call, Projection& p, Fill& fill) {
  const ProblemSpec& spec = call.spec();
  const ProjectionSpec& projection = *spec.projection;
  const std::int64_t width = projection.width;
  const std::int64_t tokens = spec.dims.query_tokens;
  const TensorView& given = call.data.embeddings;
  if (!projection.seeded_embeddings && spec.kind == TensorKind::kF32 && !AddsPositions(spec)) {
    p.embeddings = AsFloats(given);
    return;
  }
  p.own_embeddings = FloatBuffer(call.account, MemoryUse::kProjection, spec.dims.batch * tokens * width);
  p.embeddings = p.own_embeddings.data();
  const auto make = [&call, &p, given, width, tokens](std::int64_t first, std::int64_t n) {
    const ProblemSpec& s = call.spec();
    for (std::int64_t row = first; row < first + n; ++row) {
      float* out = p.own_embeddings.data() + row * width;
      if (s.projection->seeded_embeddings) {
        SeededRow({s.projection->embeddings_seed, kEmbeddingsFactor, s.kind}, row * width, width, out);
      } else {
        Widen(given, row * width, width, p.own_embeddings.data());
      }
    }
    // By offset, the rows of one batch are consecutive positions.
    for (std::int64_t row = first; row < first + n;) {
      const std::int64_t token = row % tokens;
      const std::int64_t count =
          s.position.query_positions.empty() ? std::min(first + n - row, tokens - token) : std::int64_t{1};
      AddPositions(s.position, call.data.position_table, s.position.QueryAt(row / tokens, token, tokens),
                   {p.own_embeddings.data() + row * width, count, width, width});
      row += count;
    }
  };
  // Sines are dear: fewer rows at a time where there are some.
  const std::int64_t items = spec.position.kind == PositionKind::kSinusoidal ? kPiece / 4 : kPiece;
  fill.Add(spec.dims.batch * tokens, std::max<std::int64_t>(1, items / width), make);
}

void PrepareContext(CallState& call, Projection& p, Fill& fill) {
  const ProblemSpec& spec = call.spec();
  p.context = p.embeddings;
  if (!spec.projection->has_context) return;
  const TensorView& given = call.data.context;
  p.context = AsFloats(given);
  if (spec.kind == TensorKind::kF32) return;
  const std::int64_t count = spec.dims.batch * spec.dims.key_tokens * spec.projection->context_width;
  p.own_context = FloatBuffer(call.account, MemoryUse::kProjection, count);
  p.context = p.own_context.data();
  fill.Add(count, kPiece,
           [given, &p](std::int64_t first, std::int64_t n) { Widen(given, first, n, p.own_context.data()); });
}

// Query, key, value and output matrices as float32: given, widened or seeded.
void PrepareWeights(CallState& call, Projection& p, Fill& fill) {
  const ProblemSpec& spec = call.spec();
  const Dimensions& d = spec.dims;
  const ProjectionSpec& projection = *spec.projection;
  struct Matrix {
    std::int64_t fan_in, fan_out;
    const TensorView* given;
    const float** place;
  };
  const LayerViews& layer = call.data.layer;
  const Matrix matrices[] = {
      {projection.width, d.query_heads * d.head_size, &layer.query, &p.query},
      {projection.context_width, d.key_value_heads * d.head_size, &layer.key, &p.key},
      {projection.context_width, d.key_value_heads * d.value_head_size, &layer.value, &p.value},
      {d.query_heads * d.value_head_size, projection.output_width, &layer.output, &p.output},
  };
  const bool seeded = projection.weights == WeightsSource::kSeeded;
  const auto is_own = [seeded](const Matrix& m) { return seeded || m.given->kind != TensorKind::kF32; };
  std::int64_t own = 0;
  for (const Matrix& m : matrices) own += is_own(m) ? m.fan_in * m.fan_out : 0;
  p.own_weights = FloatBuffer(call.account, MemoryUse::kProjection, own);
  float* next = p.own_weights.data();
  std::int64_t stream = 0;
  for (const Matrix& m : matrices) {
    const std::int64_t count = m.fan_in * m.fan_out;
    if (count == 0) continue;
    if (!is_own(m)) {
      *m.place = AsFloats(*m.given);
      continue;
    }
    *m.place = next;
    if (seeded) {
      const float factor = WeightsFactor(m.fan_in, m.fan_out);
      fill.Add(count, kPiece, [&call, next, stream, factor](std::int64_t first, std::int64_t n) {
        const ProblemSpec& s = call.spec();
        SeededRow({s.projection->weights_seed, factor, s.kind}, stream + first, n, next + first);
      });
    } else {
      fill.Add(count, kPiece,
               [given = *m.given, next](std::int64_t first, std::int64_t n) { Widen(given, first, n, next); });
    }
    next += count;
    stream += count;
  }
}

// Q, K and V from the prepared embeddings.
void Project(CallState& call, Projection& p, PhasedWork& work) {
  const ProblemSpec& spec = call.spec();
  const Dimensions& d = spec.dims;
  const LayerViews& layer = call.data.layer;
  auto linear = std::make_unique<Linear>(call.matmuls, call.plan.projection_blocks, call.spec().allow_non_finite);
  const auto add = [&](std::int64_t tokens, std::int64_t fan_in, std::int64_t fan_out, const float* input,
                       const float* weights, const TensorView& bias) {
    FloatBuffer rows(call.account, MemoryUse::kProjection, d.batch * tokens * fan_out);
    auto* output = reinterpret_cast<std::byte*>(rows.data());
    linear->Add({d.batch, tokens, fan_in, fan_out, input, weights, bias, TensorKind::kF32, output});
    return rows;
  };
  const std::int64_t width = spec.projection->width;
  const std::int64_t context_width = spec.projection->context_width;
  p.query_rows = add(d.query_tokens, width, d.query_heads * d.head_size, p.embeddings, p.query, layer.query_bias);
  p.key_rows = add(d.key_tokens, context_width, d.key_value_heads * d.head_size, p.context, p.key, layer.key_bias);
  p.value_rows =
      add(d.key_tokens, context_width, d.key_value_heads * d.value_head_size, p.context, p.value, layer.value_bias);
  work.Add(std::move(linear));
  call.query = ViewFloats(p.query_rows, HeadLayout::kTokenMajor, d.query_heads, d.query_tokens, d.head_size);
  call.key = {ViewFloats(p.key_rows, HeadLayout::kTokenMajor, d.key_value_heads, d.key_tokens, d.head_size),
              d.head_size};
  call.value = {ViewFloats(p.value_rows, HeadLayout::kTokenMajor, d.key_value_heads, d.key_tokens, d.value_head_size),
                d.value_head_size};
}

// Cosines and sines of every position, in pieces.
RotaryTable MakeRotary(CallState& call, const std::vector<std::int64_t>& positions, std::int64_t offset,
                       std::int64_t count) {
  const PositionSpec& spec = call.spec().position;
  if (positions.empty()) return {call.account, spec, offset, count};
  return {call.account, spec, positions};
}

void FillRotary(RotaryTable& table, std::int64_t rotary_size, Fill& fill) {
  const std::int64_t rows = std::max<std::int64_t>(1, kPiece / 4 / rotary_size);
  fill.Add(table.rows(), rows, [&table](std::int64_t first, std::int64_t n) { table.Fill(first, first + n); });
}

// Whether products are of float32 numbers that are rounded first.
bool Rounds(const CallState& call) {
  return call.spec().precision == ComputePrecision::kBFloat16 && !call.plan.bf16_products;
}

// K or V as rows [B, Hkv, Tk, size] of their own, as products take them. Keys beyond the key lengths stay unwritten and
// unread, but where a raw map shows them.
void Pack(const CallState& call, KeyValueRows& rows, Buffer<std::byte>& room, Fill& fill) {
  const Dimensions& d = call.dims();
  const std::int64_t size = rows.size;
  const bool bf16 = call.plan.bf16_products;
  const std::int64_t bytes = d.batch * d.key_value_heads * d.key_tokens * size * (bf16 ? 2 : 4);
  room = Buffer<std::byte>(call.account, MemoryUse::kPacked, bytes);
  const KeyValueRows from = rows;
  const HeadsView to = ViewHeads(bf16 ? TensorKind::kBF16 : TensorKind::kF32, room.data(), HeadLayout::kHeadMajor,
                                 d.key_value_heads, d.key_tokens, size);
  const std::int64_t piece = std::max<std::int64_t>(1, kPiece / size);
  for (std::int64_t b = 0; b < d.batch; ++b) {
    for (std::int64_t h = 0; h < d.key_value_heads; ++h) {
      fill.Add(call.spec().outputs.ShowsRawScores() ? d.key_tokens : call.spec().KeyLength(b), piece,
               [&call, from, to, b, h, bf16](std::int64_t first, std::int64_t n) {
                 std::vector<float> wide(static_cast<std::size_t>(bf16 ? from.size : 0));
                 for (std::int64_t t = first; t < first + n; ++t) {
                   auto* out = const_cast<std::byte*>(to.At(b, h, t));
                   call.MakeRow(from, b, h, t, bf16 ? wide.data() : reinterpret_cast<float*>(out), out);
                 }
               });
    }
  }
  rows = {to, size};
}

// Projected keys are turned where they are now, before packing gives them another place.
void TurnProjectedKeys(CallState& call, PhasedWork& work) {
  const Dimensions& d = call.dims();
  auto turn = std::make_unique<Fill>();
  const std::int64_t piece = std::max<std::int64_t>(1, kPiece / (d.key_value_heads * d.head_size));
  turn->Add(d.batch * d.key_tokens, piece, [&call, keys = call.key.where](std::int64_t first, std::int64_t n) {
    const Dimensions& dims = call.dims();
    for (std::int64_t row = first; row < first + n; ++row) {
      const std::int64_t token = row % dims.key_tokens;
      for (std::int64_t h = 0; h < dims.key_value_heads; ++h) {
        const std::int64_t batch = row / dims.key_tokens;
        call.key_rotary.Turn(call.KeyRow(batch, token), const_cast<float*>(keys.FloatsAt(batch, h, token)));
      }
    }
  });
  work.Add(std::move(turn));
}

// Projected keys and values are rounded where they are.
void RoundProjected(CallState& call, PhasedWork& work) {
  const Dimensions& d = call.dims();
  auto round = std::make_unique<Fill>();
  const auto add = [&](const HeadsView& heads, std::int64_t width) {
    auto* first_row = const_cast<float*>(heads.FloatsAt(0, 0, 0));
    round->Add(d.batch * d.key_tokens * width, kPiece,
               [first_row](std::int64_t first, std::int64_t n) { RoundRowToBF16(first_row + first, n); });
  };
  add(call.key.where, d.key_value_heads * d.head_size);
  add(call.value.where, d.key_value_heads * d.value_head_size);
  work.Add(std::move(round));
}

}  // namespace

void AddProjection(CallState& call, Projection& projection, PhasedWork& work) {
  auto fill = std::make_unique<Fill>();
  PrepareEmbeddings(call, projection, *fill);
  PrepareContext(call, projection, *fill);
  PrepareWeights(call, projection, *fill);
  work.Add(std::move(fill));
  Project(call, projection, work);
}

void AddPacking(CallState& call, Packed& packed, PhasedWork& work) {
  const ProblemSpec& spec = call.spec();
  const Dimensions& d = spec.dims;
  const bool rotary = spec.position.kind == PositionKind::kRotary;
  if (rotary) {
    auto tables = std::make_unique<Fill>();
    const std::int64_t size = spec.position.rotary_size;
    const PositionSpec& p = spec.position;
    call.query_rotary = MakeRotary(call, p.query_positions, p.query_offset, d.query_tokens);
    call.key_rotary = MakeRotary(call, p.key_positions, p.key_offset, d.key_tokens);
    FillRotary(call.query_rotary, size, *tables);
    FillRotary(call.key_rotary, size, *tables);
    work.Add(std::move(tables));
  }
  const TensorKind kind = call.plan.bf16_products ? TensorKind::kBF16 : TensorKind::kF32;
  if (spec.projection.has_value()) {
    if (rotary) TurnProjectedKeys(call, work);
    if (Rounds(call)) RoundProjected(call, work);
    call.key.ready = call.value.ready = kind == TensorKind::kF32;
  } else {
    const auto view = [&](const TensorView& tensor, std::int64_t heads, std::int64_t tokens, std::int64_t size) {
      return ViewHeads(tensor.kind, tensor.data, spec.layout, heads, tokens, size);
    };
    const bool ready = spec.kind == kind && !Rounds(call);
    call.query = view(call.data.query, d.query_heads, d.query_tokens, d.head_size);
    call.key = {view(call.data.key, d.key_value_heads, d.key_tokens, d.head_size), d.head_size, ready && !rotary,
                rotary};
    call.value = {view(call.data.value, d.key_value_heads, d.key_tokens, d.value_head_size), d.value_head_size, ready};
  }
  if (call.plan.packs) {
    auto fill = std::make_unique<Fill>();
    if (!call.key.ready) Pack(call, call.key, packed.keys, *fill);
    if (!call.value.ready) Pack(call, call.value, packed.values, *fill);
    work.Add(std::move(fill));
  }
  AddPackedTiles(call, packed, work);
}

void AddOutputProjection(CallState& call, Projection& projection, PhasedWork& work) {
  const Dimensions& d = call.dims();
  auto linear = std::make_unique<Linear>(call.matmuls, call.plan.projection_blocks, call.spec().allow_non_finite);
  linear->Add({d.batch, d.query_tokens, d.query_heads * d.value_head_size, call.spec().projection->output_width,
               projection.concat.data(), projection.output, call.data.layer.output_bias, call.spec().outputs.kind,
               call.output});
  work.Add(std::move(linear));
}

}  // namespace headlight
