#include "tests/fuzz/bound.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "server/kernels/convert.h"
#include "server/kernels/seeded.h"

namespace headlight::fuzz {
namespace {

using oracle::Bound;
using oracle::Problem;

OwnedTensor Copy(const TensorView& view) {
  if (view.empty()) return {};
  OwnedTensor tensor = MakeTensor(view.kind, view.shape);
  std::copy_n(reinterpret_cast<const char*>(view.data), tensor.bytes.size(), tensor.bytes.data());
  return tensor;
}

OwnedTensor Seeded(const SeededStream& stream, std::int64_t first, const Shape& shape) {
  std::vector<float> numbers(static_cast<std::size_t>(ElementCount(shape).value()));
  SeededRow(stream, first, static_cast<std::int64_t>(numbers.size()), numbers.data());
  return oracle::TensorOf(stream.kind, shape, numbers);
}

// Embeddings and a context are [B, T, E] to the oracle.
OwnedTensor Batched(OwnedTensor tensor) {
  if (tensor.shape.size() == 2) tensor.shape.insert(tensor.shape.begin(), 1);
  return tensor;
}

void CopyLayer(const DecodedCall& call, const ProblemSpec& spec, Bound& bound) {
  const LayerViews& layer = call.data.layer;
  const std::pair<OwnedTensor*, const TensorView*> given[] = {
      {&bound.wq, &layer.query},      {&bound.wk, &layer.key},        {&bound.wv, &layer.value},
      {&bound.wo, &layer.output},     {&bound.bq, &layer.query_bias}, {&bound.bk, &layer.key_bias},
      {&bound.bv, &layer.value_bias}, {&bound.bo, &layer.output_bias}};
  for (const auto& [to, from] : given) *to = Copy(*from);
  const ProjectionSpec& projection = *spec.projection;
  if (projection.weights != WeightsSource::kSeeded) return;
  const Dimensions& d = spec.dims;
  const std::pair<OwnedTensor*, Shape> made[] = {
      {&bound.wq, {projection.width, d.query_heads * d.head_size}},
      {&bound.wk, {projection.context_width, d.key_value_heads * d.head_size}},
      {&bound.wv, {projection.context_width, d.key_value_heads * d.value_head_size}},
      {&bound.wo, {d.query_heads * d.value_head_size, projection.output_width}}};
  std::int64_t first = 0;
  for (const auto& [to, shape] : made) {
    *to = Seeded({projection.weights_seed, WeightsFactor(shape[0], shape[1]), spec.kind}, first, shape);
    first += shape[0] * shape[1];
  }
}

void CopyInput(const DecodedCall& call, const ProblemSpec& spec, Bound& bound) {
  bound.query = Copy(call.data.query);
  bound.key = Copy(call.data.key);
  bound.value = Copy(call.data.value);
  if (!spec.projection.has_value()) return;
  const ProjectionSpec& projection = *spec.projection;
  bound.embeddings = Batched(Copy(call.data.embeddings));
  if (projection.seeded_embeddings) {
    const SeededStream stream{projection.embeddings_seed, kEmbeddingsFactor, spec.kind};
    bound.embeddings = Seeded(stream, 0, {1, spec.dims.query_tokens, projection.width});
  }
  bound.context = Batched(Copy(call.data.context));
  CopyLayer(call, spec, bound);
}

Problem ProblemOf(const ProblemRequest& request, const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  Problem p;
  p.b = d.batch;
  p.hq = d.query_heads;
  p.hkv = d.key_value_heads;
  p.tq = d.query_tokens;
  p.tk = d.key_tokens;
  p.d = d.head_size;
  p.dv = d.value_head_size;
  p.rank = spec.layout == HeadLayout::kHeadMajor ? 4 : 3;
  if (spec.projection.has_value()) {
    p.e = spec.projection->width;
    p.ec = spec.projection->has_context ? spec.projection->context_width : 0;
    p.eo = spec.projection->output_width;
  }
  p.kind = spec.kind;
  p.scale = spec.scale;
  p.position = request.position;
  p.position.slopes = spec.position.slopes;  // the paper's where none came
  if (request.mask.causal.has_value()) {
    p.causal = request.mask.causal->alignment;
    p.causal_offset = request.mask.causal->offset.value_or(0);
  }
  p.window = request.mask.window;
  p.segments = request.mask.segments;
  p.key_lengths = request.mask.key_lengths;
  p.softcap = request.softcap;
  p.sinks = request.sinks;
  p.head_gains = request.head_gains;
  p.precision = request.precision;
  p.allow_non_finite = request.allow_non_finite;
  return p;
}

// The largest magnitude; clears `well_formed` where a number is none. An empty tensor has none.
double Largest(const OwnedTensor& tensor, bool& well_formed) {
  double most = 0;
  for (const float x : oracle::Floats(tensor)) {
    if (!std::isfinite(x)) well_formed = false;
    most = std::max(most, std::fabs(static_cast<double>(x)));
  }
  return most;
}

double Largest(const std::vector<float>& numbers) {
  double most = 0;
  for (const float x : numbers) most = std::max(most, std::fabs(static_cast<double>(x)));
  return most;
}

// The largest bias of a pair: ALiBi's and the mask's.
double LargestBias(const Bound& bound, bool& well_formed) {
  const Problem& p = bound.problem;
  double most = 0;
  if (p.mask_kind == TensorKind::kBool) {
    for (const char byte : bound.mask.bytes) well_formed = well_formed && (byte == 0 || byte == 1);
  } else {
    for (const float x : oracle::Floats(bound.mask)) {
      if (std::isnan(x) || x == INFINITY) well_formed = false;
      if (std::isfinite(x)) most = std::max(most, std::fabs(static_cast<double>(x)));
    }
  }
  if (p.position.kind != PositionKind::kAlibi) return most;
  double distance = 0;
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t i = 0; i < p.tq; ++i) {
      for (std::int64_t j = 0; j < p.tk; ++j) {
        const std::int64_t apart = oracle::QueryPosition(p, b, i) - oracle::KeyPosition(p, b, j);
        distance = std::max(distance, std::fabs(static_cast<double>(apart)));
      }
    }
  }
  return most + Largest(p.position.slopes) * distance;
}

double LargestPosition(const Problem& p) {
  double most = 0;
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t i = 0; i < std::max(p.tq, p.tk); ++i) {
      if (i < p.tq) most = std::max(most, std::fabs(static_cast<double>(oracle::QueryPosition(p, b, i))));
      if (i < p.tk) most = std::max(most, std::fabs(static_cast<double>(oracle::KeyPosition(p, b, i))));
    }
  }
  return most;
}

// No position is turned by more than that.
double LargestAngle(const Problem& p, const ProblemSpec& spec) {
  const PositionSpec& position = spec.position;
  if (position.kind != PositionKind::kRotary && position.kind != PositionKind::kSinusoidal) return 0;
  const RotaryScalingOptions& scaling = position.scaling;
  const double shrunk = scaling.kind == RotaryScaling::kNone ? 1 : std::min(1.0, scaling.factor);
  const auto size = static_cast<double>(position.rotary_size);
  const double base = scaling.kind == RotaryScaling::kNtkAware && size > 2
                          ? position.base * std::pow(shrunk, size / (size - 2))
                          : position.base;
  return LargestPosition(p) * std::max(1.0, 1 / base) / shrunk;
}

}  // namespace

std::unique_ptr<Bound> BoundOf(const DecodedCall& call, const ProblemSpec& spec) {
  auto bound = std::make_unique<Bound>();
  bound->problem = ProblemOf(call.request, spec);
  CopyInput(call, spec, *bound);
  if (!call.data.mask.empty()) {
    bound->mask = Copy(call.data.mask);
    bound->problem.mask_kind = bound->mask.kind;
    bound->problem.mask_shape = bound->mask.shape;
  }
  bound->table = Copy(call.data.position_table);
  return bound;
}

Magnitudes MagnitudesOf(const Bound& bound, const ProblemSpec& spec) {
  const Problem& p = bound.problem;
  Magnitudes out;
  const auto largest = [&out](const OwnedTensor& tensor) { return Largest(tensor, out.well_formed); };
  double query = largest(bound.query);
  double key = largest(bound.key);
  double value = largest(bound.value);
  if (p.e != 0) {
    double from = largest(bound.embeddings);
    if (p.position.kind == PositionKind::kSinusoidal) from += 1;
    if (p.position.kind == PositionKind::kLearned) from += largest(bound.table);
    const auto width = static_cast<double>(p.e);
    query = width * from * largest(bound.wq) + largest(bound.bq);
    const double keys_from = p.ec != 0 ? largest(bound.context) : from;
    const double keys_width = p.ec != 0 ? static_cast<double>(p.ec) : width;
    key = keys_width * keys_from * largest(bound.wk) + largest(bound.bk);
    value = keys_width * keys_from * largest(bound.wv) + largest(bound.bv);
  }
  if (p.position.kind == PositionKind::kRotary && p.position.scaling.kind == RotaryScaling::kYarn) {
    const double given =
        p.position.scaling.attention_factor.value_or(std::max(1.0, 0.1 * std::log(p.position.scaling.factor) + 1));
    query *= 2 * given;
    key *= 2 * given;
  }
  out.angle = LargestAngle(p, spec);
  out.product = static_cast<double>(p.d) * query * key;
  out.score = std::fabs(spec.scale) * out.product + LargestBias(bound, out.well_formed) + Largest(p.sinks);
  out.output = value * (p.head_gains.empty() ? 1 : std::max(1.0, Largest(p.head_gains)));
  if (p.eo != 0) out.output = static_cast<double>(p.hq * p.dv) * out.output * largest(bound.wo) + largest(bound.bo);
  return out;
}

}  // namespace headlight::fuzz
