#include "server/engine/reference_work.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "server/base/half.h"
#include "server/engine/fill.h"
#include "server/kernels/reference/attention.h"
#include "server/kernels/seeded.h"

namespace headlight {
namespace {

constexpr std::int64_t kColumns = 256;

bool Halves(const PositionSpec& position) { return position.layout == ChannelLayout::kHalves; }

void LoadRow(const HeadsView& heads, std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t size, double* out) {
  const TensorView row{heads.kind, {size}, heads.At(b, h, t)};
  for (std::int64_t c = 0; c < size; ++c) out[c] = ElementAsFloat(row, c);
}

}  // namespace

// Every key and value row in double: projected or as given, turned. A step is one head of one token.
class ReferenceWork::Keys final : public Phase {
 public:
  explicit Keys(ReferenceWork& work) : Phase(Stage::kProject), work_(work) {}

  std::int64_t Begin() override { return work_.spec_.dims.batch * work_.spec_.dims.key_tokens; }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override {
    const ProblemSpec& spec = work_.spec_;
    const Dimensions& d = spec.dims;
    const std::int64_t batch = task / d.key_tokens;
    const std::int64_t token = task % d.key_tokens;
    if (token >= spec.KeyLength(batch)) return false;
    const std::int64_t row = (batch * d.key_value_heads + step) * d.key_tokens + token;
    double* key = work_.keys_.data() + row * d.head_size;
    double* value = work_.values_.data() + row * d.value_head_size;
    const AttentionData& data = work_.data_;
    if (spec.projection.has_value()) {
      auto* input = reinterpret_cast<double*>(lane.scratch);
      if (step == 0) LoadInput(batch, token, input);
      reference::Project(input, data.layer.key, data.layer.key_bias, step * d.head_size, (step + 1) * d.head_size, key);
      reference::Project(input, data.layer.value, data.layer.value_bias, step * d.value_head_size,
                         (step + 1) * d.value_head_size, value);
    } else {
      LoadRow(ViewHeads(data.key.kind, data.key.data, spec.layout, d.key_value_heads, d.key_tokens, d.head_size), batch,
              step, token, d.head_size, key);
      LoadRow(
          ViewHeads(data.value.kind, data.value.data, spec.layout, d.key_value_heads, d.key_tokens, d.value_head_size),
          batch, step, token, d.value_head_size, value);
    }
    work_.TurnIfRotary(spec.position.KeyAt(batch, token, d.key_tokens), key);
    return step + 1 < d.key_value_heads;
  }

 private:
  void LoadInput(std::int64_t batch, std::int64_t token, double* out) const {
    const ProblemSpec& spec = work_.spec_;
    if (!spec.projection->has_context) return work_.LoadEmbedding(batch, token, out);
    const std::int64_t width = spec.projection->context_width;
    for (std::int64_t c = 0; c < width; ++c) {
      out[c] = ElementAsFloat(work_.data_.context, (batch * spec.dims.key_tokens + token) * width + c);
    }
  }

  ReferenceWork& work_;
};

// The chosen rows. Steps: each query head, then blocks of columns of the output projection.
class ReferenceWork::Rows final : public Phase {
 public:
  explicit Rows(ReferenceWork& work) : Phase(Stage::kAttend), work_(work) {}

  std::int64_t Begin() override { return work_.plan_.rows; }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override {
    const ProblemSpec& spec = work_.spec_;
    const Dimensions& d = spec.dims;
    const std::int64_t row = work_.RowAt(task);
    auto* next = reinterpret_cast<double*>(lane.scratch);
    double* query = next;
    double* bias = query + d.head_size;
    double* weights = bias + d.key_tokens;
    double* heads = weights + d.key_tokens;
    double* input = heads + d.query_heads * d.value_head_size;
    double* result = work_.results_.data() + task * work_.width_;
    const bool projects = spec.projection.has_value() && spec.projection->output_width > 0;
    if (step < d.query_heads) {
      const std::int64_t batch = row / d.query_tokens;
      const std::int64_t token = row % d.query_tokens;
      if (step == 0 && spec.projection.has_value()) work_.LoadEmbedding(batch, token, input);
      LoadQuery(batch, step, token, input, query);
      for (std::int64_t j = 0; j < d.key_tokens; ++j) bias[j] = Bias(batch, step, token, j);
      const std::int64_t first = (batch * d.key_value_heads + d.KeyValueHead(step)) * d.key_tokens;
      const double sink = spec.sinks.empty() ? 0 : spec.sinks[static_cast<std::size_t>(step)];
      double* output = (projects ? heads : result) + step * d.value_head_size;
      reference::Attend(
          {query,
           {work_.keys_.data() + first * d.head_size, d.key_tokens, d.head_size, d.head_size},
           {work_.values_.data() + first * d.value_head_size, d.key_tokens, d.value_head_size, d.value_head_size},
           bias,
           spec.scale,
           weights,
           output,
           spec.softcap,
           spec.sinks.empty() ? nullptr : &sink});
      ApplyGain(step, output);
      return step + 1 < d.query_heads || projects;
    }
    const std::int64_t column = (step - d.query_heads) * kColumns;
    const std::int64_t end = std::min(column + kColumns, work_.width_);
    reference::Project(heads, work_.data_.layer.output, work_.data_.layer.output_bias, column, end, result + column);
    return end < work_.width_;
  }

 private:
  void LoadQuery(std::int64_t batch, std::int64_t head, std::int64_t token, const double* input, double* query) const {
    const ProblemSpec& spec = work_.spec_;
    const Dimensions& d = spec.dims;
    const AttentionData& data = work_.data_;
    if (spec.projection.has_value()) {
      reference::Project(input, data.layer.query, data.layer.query_bias, head * d.head_size, (head + 1) * d.head_size,
                         query);
    } else {
      LoadRow(ViewHeads(data.query.kind, data.query.data, spec.layout, d.query_heads, d.query_tokens, d.head_size),
              batch, head, token, d.head_size, query);
    }
    work_.TurnIfRotary(spec.position.QueryAt(batch, token, d.query_tokens), query);
  }

  void ApplyGain(std::int64_t head, double* output) const {
    const std::vector<float>& gains = work_.spec_.head_gains;
    if (gains.empty()) return;
    const double gain = gains[static_cast<std::size_t>(head)];
    for (std::int64_t c = 0; c < work_.spec_.dims.value_head_size; ++c) output[c] = gain == 0 ? 0 : output[c] * gain;
  }

  double Bias(std::int64_t batch, std::int64_t head, std::int64_t token, std::int64_t key) const {
    const PositionSpec& position = work_.spec_.position;
    const double bias = work_.rules_.Bias(batch, head, token, key);
    if (position.kind != PositionKind::kAlibi) return bias;
    const Dimensions& d = work_.spec_.dims;
    const std::int64_t distance =
        position.QueryAt(batch, token, d.query_tokens) - position.KeyAt(batch, key, d.key_tokens);
    return bias - position.slopes[static_cast<std::size_t>(head)] * std::fabs(static_cast<double>(distance));
  }

  ReferenceWork& work_;
};

ReferenceWork::ReferenceWork(const ProblemSpec& spec, const ReferencePlan& plan, const AttentionData& data,
                             MemoryAccount& account)
    : PhasedWork(account, 2 * ReferenceScratch(spec), absl::InfinitePast()),
      spec_(spec),
      plan_(plan),
      data_(data),
      account_(account),
      rules_(spec, data.mask) {
  if (spec.position.kind == PositionKind::kRotary) rotary_ = MakeRotaryFrequencies(spec.position);
  width_ = spec.dims.query_heads * spec.dims.value_head_size;
  if (spec.projection.has_value() && spec.projection->output_width > 0) width_ = spec.projection->output_width;
}

void ReferenceWork::Build() {
  const Dimensions& d = spec_.dims;
  AddSeeds();
  const std::int64_t rows = d.batch * d.key_value_heads * d.key_tokens;
  keys_ = Buffer<double>(account_, MemoryUse::kProjection, rows * d.head_size);
  values_ = Buffer<double>(account_, MemoryUse::kProjection, rows * d.value_head_size);
  results_ = Buffer<double>(account_, MemoryUse::kProjection, plan_.rows * width_);
  Add(std::make_unique<Keys>(*this));
  Add(std::make_unique<Rows>(*this));
}

void ReferenceWork::AddSeeds() {
  if (!spec_.projection.has_value()) return;
  const Dimensions& d = spec_.dims;
  const ProjectionSpec& p = *spec_.projection;
  struct Made {
    TensorView* view;
    SeededStream stream;
    std::int64_t first;
  };
  std::vector<Made> made;
  std::int64_t floats = 0;
  if (p.seeded_embeddings) {
    data_.embeddings = {TensorKind::kF32, {d.query_tokens, p.width}, nullptr};
    made.push_back({&data_.embeddings, {p.embeddings_seed, kEmbeddingsFactor, spec_.kind}, 0});
    floats += d.query_tokens * p.width;
  }
  if (p.weights == WeightsSource::kSeeded) {
    const std::pair<TensorView*, Shape> matrices[] = {
        {&data_.layer.query, {p.width, d.query_heads * d.head_size}},
        {&data_.layer.key, {p.context_width, d.key_value_heads * d.head_size}},
        {&data_.layer.value, {p.context_width, d.key_value_heads * d.value_head_size}},
        {&data_.layer.output, {d.query_heads * d.value_head_size, p.output_width}}};
    std::int64_t first = 0;
    for (const auto& [view, shape] : matrices) {
      *view = {TensorKind::kF32, shape, nullptr};
      made.push_back({view, {p.weights_seed, WeightsFactor(shape[0], shape[1]), spec_.kind}, first});
      first += shape[0] * shape[1];
    }
    floats += first;
  }
  seeded_ = FloatBuffer(account_, MemoryUse::kProjection, floats);
  float* next = seeded_.data();
  auto fill = std::make_unique<Fill>();
  for (const Made& m : made) {
    m.view->data = reinterpret_cast<const std::byte*>(next);
    const std::int64_t count = m.view->shape[0] * m.view->shape[1];
    fill->Add(count, std::int64_t{1} << 16,
              [next, m](std::int64_t first, std::int64_t n) { SeededRow(m.stream, m.first + first, n, next + first); });
    next += count;
  }
  Add(std::move(fill));
}

void ReferenceWork::TurnIfRotary(std::int64_t position, double* row) const {
  if (spec_.position.kind != PositionKind::kRotary) return;
  reference::TurnBy(row, rotary_.frequency, rotary_.amplitude, Halves(spec_.position), position);
}

void ReferenceWork::LoadEmbedding(std::int64_t batch, std::int64_t token, double* out) const {
  const std::int64_t width = spec_.projection->width;
  const std::int64_t position = spec_.position.QueryAt(batch, token, spec_.dims.query_tokens);
  for (std::int64_t c = 0; c < width; ++c) {
    out[c] = ElementAsFloat(data_.embeddings, (batch * spec_.dims.query_tokens + token) * width + c);
    if (spec_.position.kind == PositionKind::kLearned) {
      out[c] += ElementAsFloat(data_.position_table, position * width + c);
    }
  }
  if (spec_.position.kind != PositionKind::kSinusoidal) return;
  reference::AddSinusoid(out, width, Halves(spec_.position), spec_.position.base, position);
}

}  // namespace headlight
