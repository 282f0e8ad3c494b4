#include "tests/support/oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/base/half.h"
#include "server/kernels/convert.h"
#include "server/kernels/reference/attention.h"

namespace headlight::oracle {
namespace {

constexpr double kForbidden = -std::numeric_limits<double>::infinity();

std::uint64_t Mix(std::uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

TensorForm FormOf(const OwnedTensor& tensor) {
  return {tensor.kind, tensor.shape, static_cast<std::int64_t>(tensor.bytes.size())};
}

Shape HeadsShape(const Problem& p, std::int64_t heads, std::int64_t tokens, std::int64_t size) {
  if (p.rank == 4) return {p.b, heads, tokens, size};
  if (p.rank == 3) return {p.b, tokens, heads * size};
  return {tokens, heads * size};
}

void BindQueryKeyValue(Bound& bound) {
  const Problem& p = bound.problem;
  const auto make = [&p](std::uint64_t salt, const Shape& shape) {
    return TensorOf(p.kind, shape, Numbers(p.seed * 16 + salt, ElementCount(shape).value()));
  };
  bound.query = make(0, HeadsShape(p, p.hq, p.tq, p.d));
  bound.key = make(1, HeadsShape(p, p.hkv, p.tk, p.d));
  bound.value = make(2, HeadsShape(p, p.hkv, p.tk, p.dv));
  QueryKeyValueForm form;
  form.query = FormOf(bound.query);
  form.key = FormOf(bound.key);
  form.value = FormOf(bound.value);
  bound.request.input = form;
  bound.data.query = bound.query.view();
  bound.data.key = bound.key.view();
  bound.data.value = bound.value.view();
}

void BindEmbeddings(Bound& bound) {
  const Problem& p = bound.problem;
  std::uint64_t salt = 0;
  const auto make = [&](OwnedTensor& place, TensorView& view, const Shape& shape, double scale) {
    std::vector<float> numbers = Numbers(p.seed * 16 + salt++, ElementCount(shape).value());
    for (float& x : numbers) x = static_cast<float>(x * scale);
    place = TensorOf(p.kind, shape, numbers);
    view = place.view();
    return FormOf(place);
  };
  const std::int64_t ec = p.ec != 0 ? p.ec : p.e;
  const double in = 1 / std::sqrt(static_cast<double>(p.e));
  SelfAttentionForm form;
  form.embeddings = make(bound.embeddings, bound.data.embeddings, {p.b, p.tq, p.e}, 1);
  if (p.ec != 0) form.context = make(bound.context, bound.data.context, {p.b, p.tk, p.ec}, 1);
  LayerForm layer;
  LayerViews& views = bound.data.layer;
  layer.query = make(bound.wq, views.query, {p.e, p.hq * p.d}, in);
  layer.key = make(bound.wk, views.key, {ec, p.hkv * p.d}, in);
  layer.value = make(bound.wv, views.value, {ec, p.hkv * p.dv}, in);
  if (p.eo != 0) layer.output = make(bound.wo, views.output, {p.hq * p.dv, p.eo}, in);
  if (p.biases) {
    layer.query_bias = make(bound.bq, views.query_bias, {p.hq * p.d}, 0.5);
    layer.key_bias = make(bound.bk, views.key_bias, {p.hkv * p.d}, 0.5);
    layer.value_bias = make(bound.bv, views.value_bias, {p.hkv * p.dv}, 0.5);
    if (p.eo != 0) layer.output_bias = make(bound.bo, views.output_bias, {p.eo}, 0.5);
  }
  form.layer = layer;
  bound.request.input = form;
}

// The definition of what row i may see, and the bias of the pair: nothing shared with the server's rules.
double BiasOf(const Bound& bound, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  const Problem& p = bound.problem;
  const std::int64_t length = p.key_lengths.empty() ? p.tk : p.key_lengths[static_cast<std::size_t>(b)];
  if (j >= length) return kForbidden;
  const auto offset_of = [&](CausalAlignment alignment, std::int64_t given) {
    if (alignment == CausalAlignment::kTopLeft) return std::int64_t{0};
    return alignment == CausalAlignment::kBottomRight ? length - p.tq : given;
  };
  if (p.causal.has_value() && j > i + offset_of(*p.causal, p.causal_offset)) return kForbidden;
  if (p.window.has_value()) {
    const std::int64_t offset =
        p.causal.has_value()
            ? offset_of(*p.causal, p.causal_offset)
            : offset_of(p.window->alignment.value_or(CausalAlignment::kTopLeft), p.window->offset.value_or(0));
    // A side may be as large as the wire can say.
    if (p.window->left.has_value() && i + offset - j > *p.window->left) return kForbidden;
    if (p.window->right.has_value() && j - i - offset > *p.window->right) return kForbidden;
  }
  if (p.segments.has_value()) {
    const auto id = [b](const std::vector<std::int64_t>& ids, std::int64_t tokens, std::int64_t t) {
      return ids.at(static_cast<std::size_t>(static_cast<std::int64_t>(ids.size()) == tokens ? t : b * tokens + t));
    };
    if (id(p.segments->query_ids, p.tq, i) != id(p.segments->key_ids, p.tk, j)) return kForbidden;
  }
  double bias = 0;
  if (p.position.kind == PositionKind::kAlibi) {
    const std::int64_t distance = QueryPosition(p, b, i) - KeyPosition(p, b, j);
    bias -= p.position.slopes.at(static_cast<std::size_t>(h)) * std::fabs(static_cast<double>(distance));
  }
  if (!p.mask_kind.has_value()) return bias;
  Shape shape = p.mask_shape;
  while (shape.size() < 4) shape.insert(shape.begin(), 1);
  if (j >= shape[3]) return kForbidden;
  const std::int64_t at = ((shape[0] == 1 ? 0 : b) * shape[1] + (shape[1] == 1 ? 0 : h)) * shape[2];
  const float value = ElementAsFloat(bound.mask.view(), (at + (shape[2] == 1 ? 0 : i)) * shape[3] + j);
  if (*p.mask_kind == TensorKind::kBool) return value != 0 ? bias : kForbidden;
  return bias + value;
}

// [B, heads, T, size] in double.
struct Heads {
  std::int64_t heads, tokens, size;
  std::vector<double> data;
  double* Row(std::int64_t b, std::int64_t h, std::int64_t t) {
    return data.data() + ((b * heads + h) * tokens + t) * size;
  }
};

Heads MakeHeads(std::int64_t b, std::int64_t heads, std::int64_t tokens, std::int64_t size) {
  return {heads, tokens, size, std::vector<double>(static_cast<std::size_t>(b * heads * tokens * size))};
}

Heads HeadsOf(const Problem& p, const OwnedTensor& tensor, std::int64_t heads, std::int64_t tokens, std::int64_t size) {
  Heads out = MakeHeads(p.b, heads, tokens, size);
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t c = 0; c < size; ++c) {
          const std::int64_t flat =
              p.rank == 4 ? ((b * heads + h) * tokens + t) * size + c : ((b * tokens + t) * heads + h) * size + c;
          out.Row(b, h, t)[c] = ElementAsFloat(tensor.view(), flat);
        }
      }
    }
  }
  return out;
}

Heads ProjectHeads(const Bound& bound, bool context, const OwnedTensor& weights, const OwnedTensor& bias,
                   std::int64_t heads, std::int64_t size) {
  const Problem& p = bound.problem;
  const OwnedTensor& from = context && p.ec != 0 ? bound.context : bound.embeddings;
  const std::int64_t tokens = from.shape[1];
  const std::int64_t width = from.shape[2];
  const bool halves = p.position.layout == ChannelLayout::kHalves;
  Heads out = MakeHeads(p.b, heads, tokens, size);
  std::vector<double> x(static_cast<std::size_t>(width));
  std::vector<double> y(static_cast<std::size_t>(heads * size));
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t c = 0; c < width; ++c) {
        x[static_cast<std::size_t>(c)] = ElementAsFloat(from.view(), (b * tokens + t) * width + c);
      }
      if (&from == &bound.embeddings && p.position.kind == PositionKind::kSinusoidal) {
        reference::AddSinusoid(x.data(), width, halves, p.position.base.value_or(10000), QueryPosition(p, b, t));
      }
      if (&from == &bound.embeddings && p.position.kind == PositionKind::kLearned) {
        for (std::int64_t c = 0; c < width; ++c) {
          x[static_cast<std::size_t>(c)] += ElementAsFloat(bound.table.view(), QueryPosition(p, b, t) * width + c);
        }
      }
      const TensorView bias_view = bias.empty() ? TensorView() : bias.view();
      reference::Project(x.data(), weights.view(), bias_view, 0, heads * size, y.data());
      for (std::int64_t h = 0; h < heads; ++h) std::copy_n(y.data() + h * size, size, out.Row(b, h, t));
    }
  }
  return out;
}

// The frequency of channel pair c of `size` turned channels, written from the papers and from transformers'
// modeling_rope_utils.py, and what cosines and sines are multiplied with.
double Frequency(const PositionForm& position, std::int64_t c, double size) {
  const RotaryScalingOptions& s = position.scaling;
  const double base = position.base.value_or(10000);
  const double plain = 1 / std::pow(base, 2 * static_cast<double>(c) / size);
  const auto context = static_cast<double>(s.original_context);
  const double two_pi = 2 * std::acos(-1.0);
  switch (s.kind) {
    case RotaryScaling::kNone: return plain;
    case RotaryScaling::kLinear: return plain / s.factor;
    case RotaryScaling::kNtkAware:
      return 1 / std::pow(base * std::pow(s.factor, size / (size - 2)), 2 * static_cast<double>(c) / size);
    case RotaryScaling::kLlama3: {
      const double wavelength = two_pi / plain;
      if (wavelength < context / s.high_frequency_factor) return plain;
      if (wavelength > context / s.low_frequency_factor) return plain / s.factor;
      const double smooth =
          (context / wavelength - s.low_frequency_factor) / (s.high_frequency_factor - s.low_frequency_factor);
      return (1 - smooth) * plain / s.factor + smooth * plain;
    }
    case RotaryScaling::kYarn: {
      const auto dim = [&](double turns) { return size * std::log(context / (turns * two_pi)) / (2 * std::log(base)); };
      const double low = std::max(std::floor(dim(s.beta_fast)), 0.0);
      double high = std::min(std::ceil(dim(s.beta_slow)), size - 1);
      if (low == high) high += 0.001;
      const double keep = 1 - std::min(std::max((static_cast<double>(c) - low) / (high - low), 0.0), 1.0);
      return plain / s.factor * (1 - keep) + plain * keep;
    }
  }
  return plain;
}

double Amplitude(const RotaryScalingOptions& s) {
  if (s.kind != RotaryScaling::kYarn) return 1;
  return s.attention_factor.value_or(s.factor <= 1 ? 1 : 0.1 * std::log(s.factor) + 1);
}

template <typename PositionOf>
void TurnAll(const Problem& p, Heads& heads, PositionOf position_of) {
  if (p.position.kind != PositionKind::kRotary) return;
  const std::int64_t size = p.position.rotary_size != 0 ? p.position.rotary_size : heads.size;
  std::vector<double> frequency;
  for (std::int64_t c = 0; c < size / 2; ++c) frequency.push_back(Frequency(p.position, c, static_cast<double>(size)));
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t h = 0; h < heads.heads; ++h) {
      for (std::int64_t t = 0; t < heads.tokens; ++t) {
        reference::TurnBy(heads.Row(b, h, t), frequency, Amplitude(p.position.scaling),
                          p.position.layout == ChannelLayout::kHalves, position_of(p, b, t));
      }
    }
  }
}

// Heads to the order of the answer's bytes, through the output matrix where there is one.
std::vector<double> OutputOf(const Bound& bound, Heads& heads) {
  const Problem& p = bound.problem;
  if (p.e == 0 && p.rank == 4) return heads.data;
  const std::int64_t concat = p.hq * p.dv;
  const std::int64_t width = p.e != 0 && p.eo != 0 ? p.eo : concat;
  std::vector<double> out(static_cast<std::size_t>(p.b * p.tq * width));
  std::vector<double> row(static_cast<std::size_t>(concat));
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t t = 0; t < p.tq; ++t) {
      for (std::int64_t h = 0; h < p.hq; ++h) std::copy_n(heads.Row(b, h, t), p.dv, row.data() + h * p.dv);
      double* to = out.data() + (b * p.tq + t) * width;
      if (p.e != 0 && p.eo != 0) {
        reference::Project(row.data(), bound.wo.view(), bound.bo.empty() ? TensorView() : bound.bo.view(), 0, p.eo, to);
      } else {
        std::copy(row.begin(), row.end(), to);
      }
    }
  }
  return out;
}

}  // namespace

std::vector<float> Numbers(std::uint64_t seed, std::int64_t n) {
  std::vector<float> numbers(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const double unit = static_cast<double>(Mix(Mix(seed) + i) >> 11) * 0x1p-53;
    numbers[i] = static_cast<float>((2 * unit - 1) * std::sqrt(3.0));
  }
  return numbers;
}

OwnedTensor TensorOf(TensorKind kind, Shape shape, const std::vector<float>& numbers) {
  OwnedTensor tensor = MakeTensor(kind, std::move(shape));
  if (kind == TensorKind::kBool) {
    for (std::size_t i = 0; i < numbers.size(); ++i) tensor.bytes[i] = numbers[i] != 0 ? 1 : 0;
  } else {
    NarrowRow(kind, numbers.data(), reinterpret_cast<std::byte*>(tensor.bytes.data()),
              static_cast<std::int64_t>(numbers.size()));
  }
  return tensor;
}

std::int64_t QueryPosition(const Problem& p, std::int64_t b, std::int64_t i) {
  const std::vector<std::int64_t>& given = p.position.query_positions;
  if (given.empty()) return p.position.query_offset.value_or(0) + i;
  return given.at(static_cast<std::size_t>(static_cast<std::int64_t>(given.size()) == p.tq ? i : b * p.tq + i));
}

std::int64_t KeyPosition(const Problem& p, std::int64_t b, std::int64_t j) {
  if (p.e != 0 && p.ec == 0) return QueryPosition(p, b, j);
  const std::vector<std::int64_t>& given = p.position.key_positions;
  if (given.empty()) return p.position.key_offset.value_or(0) + j;
  return given.at(static_cast<std::size_t>(static_cast<std::int64_t>(given.size()) == p.tk ? j : b * p.tk + j));
}

std::string Problem::Describe() const {
  return absl::StrCat("B ", b, " Hq ", hq, " Hkv ", hkv, " Tq ", tq, " Tk ", tk, " D ", d, " Dv ", dv, " E ", e, " Ec ",
                      ec, " Eo ", eo, " rank ", rank, " kind ", NameOf(kind), " position ", NameOf(position.kind),
                      " causal ", causal.has_value() ? static_cast<int>(*causal) : -1, " offset ", causal_offset,
                      " lengths ", key_lengths.size(), " mask ", ToString(mask_shape), " window ", window.has_value(),
                      " segments ", segments.has_value(), " softcap ", softcap.value_or(0), " sinks ", sinks.size(),
                      " gains ", head_gains.size(), " positions ", position.query_positions.size(), "/",
                      position.key_positions.size(), " scaling ", static_cast<int>(position.scaling.kind), " seed ",
                      seed);
}

std::unique_ptr<Bound> Bind(const Problem& problem) {
  auto bound = std::make_unique<Bound>();
  bound->problem = problem;
  const Problem& p = bound->problem;
  p.e == 0 ? BindQueryKeyValue(*bound) : BindEmbeddings(*bound);
  ProblemRequest& request = bound->request;
  request.query_heads = p.hq;
  request.key_value_heads = p.hkv;
  request.scale = p.scale;
  request.position = p.position;
  if (p.causal.has_value()) {
    request.mask.causal.emplace();
    request.mask.causal->alignment = p.causal;
    if (*p.causal == CausalAlignment::kExplicit) request.mask.causal->offset = p.causal_offset;
  }
  request.mask.window = p.window;
  request.mask.segments = p.segments;
  request.mask.key_lengths = p.key_lengths;
  request.softcap = p.softcap;
  request.sinks = p.sinks;
  request.head_gains = p.head_gains;
  request.precision = p.precision;
  request.allow_non_finite = p.allow_non_finite;
  if (p.mask_kind.has_value()) {
    bound->mask = TensorOf(*p.mask_kind, p.mask_shape, p.mask);
    request.mask.tensor = FormOf(bound->mask);
    bound->data.mask = bound->mask.view();
  }
  if (p.position.kind == PositionKind::kLearned) {
    const std::vector<std::int64_t>& given = p.position.query_positions;
    const std::int64_t last =
        given.empty() ? p.position.query_offset.value_or(0) + p.tq - 1 : *std::max_element(given.begin(), given.end());
    const Shape shape = {last + 4, p.e};
    bound->table = TensorOf(TensorKind::kF32, shape, Numbers(p.seed * 16 + 15, shape[0] * shape[1]));
    request.position.table = FormOf(bound->table);
    bound->data.position_table = bound->table.view();
  }
  request.outputs = p.outputs;
  return bound;
}

Exact Solve(const Bound& bound) {
  const Problem& p = bound.problem;
  const bool projects = p.e != 0;
  Heads q =
      projects ? ProjectHeads(bound, false, bound.wq, bound.bq, p.hq, p.d) : HeadsOf(p, bound.query, p.hq, p.tq, p.d);
  Heads k =
      projects ? ProjectHeads(bound, true, bound.wk, bound.bk, p.hkv, p.d) : HeadsOf(p, bound.key, p.hkv, p.tk, p.d);
  Heads v = projects ? ProjectHeads(bound, true, bound.wv, bound.bv, p.hkv, p.dv)
                     : HeadsOf(p, bound.value, p.hkv, p.tk, p.dv);
  TurnAll(p, q, QueryPosition);
  TurnAll(p, k, KeyPosition);
  Heads out = MakeHeads(p.b, p.hq, p.tq, p.dv);
  Exact exact;
  const double scale = p.scale.value_or(1 / std::sqrt(static_cast<double>(p.d)));
  std::vector<double> bias(static_cast<std::size_t>(p.tk));
  std::vector<double> weights(static_cast<std::size_t>(p.tk));
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t h = 0; h < p.hq; ++h) {
      const std::int64_t kv = h / (p.hq / p.hkv);
      for (std::int64_t i = 0; i < p.tq; ++i) {
        for (std::int64_t j = 0; j < p.tk; ++j) bias[static_cast<std::size_t>(j)] = BiasOf(bound, b, h, i, j);
        for (std::int64_t j = 0; j < p.tk; ++j) {
          const double dot = std::inner_product(q.Row(b, h, i), q.Row(b, h, i) + p.d, k.Row(b, kv, j), 0.0);
          exact.scaled.push_back(scale * dot);
          exact.softcapped.push_back(p.softcap ? *p.softcap * std::tanh(scale * dot / *p.softcap) : scale * dot);
        }
        const double sink = p.sinks.empty() ? 0 : p.sinks.at(static_cast<std::size_t>(h));
        const reference::Row row{q.Row(b, h, i),
                                 {k.Row(b, kv, 0), p.tk, p.d, p.d},
                                 {v.Row(b, kv, 0), p.tk, p.dv, p.dv},
                                 bias.data(),
                                 scale,
                                 weights.data(),
                                 out.Row(b, h, i),
                                 p.softcap.value_or(0),
                                 p.sinks.empty() ? nullptr : &sink};
        reference::Score(row, 0, p.tk);
        exact.scores.insert(exact.scores.end(), weights.begin(), weights.end());
        exact.log_sum_exp.push_back(reference::Softmax(row));
        reference::Blend(row, 0, p.tk);
        const double gain = p.head_gains.empty() ? 1 : p.head_gains.at(static_cast<std::size_t>(h));
        for (std::int64_t c = 0; c < p.dv; ++c) out.Row(b, h, i)[c] *= gain;
        exact.weights.insert(exact.weights.end(), weights.begin(), weights.end());
      }
    }
  }
  exact.output = OutputOf(bound, out);
  exact.heads = std::move(out.data);
  return exact;
}

absl::StatusOr<std::unique_ptr<Ran>> RunEngine(const Bound& bound, Algorithm algorithm, int threads,
                                               const ChangePlan& change) {
  ComputePool pool(threads);
  return RunEngineOn(pool, bound, algorithm, {}, change);
}

absl::StatusOr<std::unique_ptr<Ran>> RunEngineOn(ComputePool& pool, const Bound& bound, Algorithm algorithm,
                                                 const Limits& limits, const ChangePlan& change) {
  const auto on_pool = [&pool](Work& work) {
    absl::Status status;
    absl::Notification ended;
    pool.Run(std::make_shared<CallControl>(absl::InfiniteFuture()), &work, [&](const absl::Status& computed) {
      status = computed;
      ended.Notify();
    });
    ended.WaitForNotification();
    return status;
  };
  return RunEngineBy(on_pool, bound, algorithm, limits, change);
}

absl::StatusOr<std::unique_ptr<Ran>> RunEngineBy(const RunWork& run, const Bound& bound, Algorithm algorithm,
                                                 const Limits& limits, const ChangePlan& change) {
  ProblemRequest request = bound.request;
  request.algorithm = algorithm;
  absl::StatusOr<ProblemSpec> spec = CheckProblem(request, limits);
  if (!spec.ok()) return spec.status();
  absl::StatusOr<ExecutionPlan> plan = MakePlan(*std::move(spec), limits, {MultipliesBF16(), GainsFromPacking()});
  if (!plan.ok()) return plan.status();
  if (change) change(*plan);
  static auto& matmuls = *new MatmulCache();
  MemoryAccount account(nullptr);
  std::vector<std::unique_ptr<MapSink>> sinks = MakeMapSinks(plan->spec);
  std::vector<ScoreSink*> borrowed;
  borrowed.reserve(sinks.size());
  for (const auto& sink : sinks) borrowed.push_back(sink.get());
  StatisticsSink statistics(plan->spec);
  if (plan->spec.outputs.head_statistics) borrowed.push_back(&statistics);
  AttentionWork work(*plan, bound.data, account, matmuls, borrowed, absl::Now());
  if (absl::Status status = run(work); !status.ok()) return status;
  std::vector<std::vector<MapResult>> maps;
  maps.reserve(sinks.size());
  for (const auto& sink : sinks) maps.push_back(sink->TakeResults());
  return std::make_unique<Ran>(
      Ran{work.TakeResult(), std::move(maps), statistics.results(), work.Record(), *std::move(plan)});
}

std::vector<float> Floats(const OwnedTensor& tensor) {
  std::vector<float> out(static_cast<std::size_t>(ElementCount(tensor.shape).value_or(0)));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = ElementAsFloat(tensor.view(), static_cast<std::int64_t>(i));
  return out;
}

std::string Compare(const std::vector<float>& got, const std::vector<double>& want, TensorKind kind, double times) {
  if (got.size() != want.size()) return absl::StrCat("sizes ", got.size(), " and ", want.size());
  double half_ulp = 0;
  if (kind == TensorKind::kF16) half_ulp = 0x1p-11;
  if (kind == TensorKind::kBF16) half_ulp = 0x1p-8;
  double worst = 1;
  std::string offence;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double g = got[i];
    if (g == want[i]) continue;
    const double bound = times * (1e-5 + 5e-6 * std::fabs(want[i])) + half_ulp * std::fabs(want[i]);
    const double ratio =
        std::isnan(g) || std::isinf(g) ? std::numeric_limits<double>::infinity() : std::fabs(g - want[i]) / bound;
    if (ratio <= worst) continue;
    worst = ratio;
    offence = absl::StrCat("element ", i, ": got ", g, ", want ", want[i], ", ", ratio, " times the bound");
  }
  return offence;
}

}  // namespace headlight::oracle
