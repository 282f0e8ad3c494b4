#include "server/engine/stack_run.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "server/engine/fill.h"
#include "server/engine/linear.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

// Numbers that one unit makes.
constexpr std::int64_t kPiece = std::int64_t{1} << 16;

}  // namespace

// What stands between layers: phases that are known when the layer before has ended.
class StackRun::Step final : public PhasedWork {
 public:
  Step(MemoryAccount& account, std::int64_t scratch_floats, absl::Time accepted, std::function<void(Step&)> build)
      : PhasedWork(account, scratch_floats, accepted), build_(std::move(build)) {}

 private:
  void Build() override { build_(*this); }

  std::function<void(Step&)> build_;
};

StackRun::StackRun(const StackPlan& plan, const StackViews& stack, const std::vector<std::int64_t>& ids,
                   const Resources& resources, absl::Time accepted)
    : plan_(plan),
      stack_(stack),
      ids_(ids),
      resources_(resources),
      stream_(resources.account, MemoryUse::kProjection, plan.tokens * plan.width),
      normed_(resources.account, MemoryUse::kProjection, plan.tokens * plan.width),
      last_heads_(plan.layers.size()) {
  const auto layers = static_cast<std::int64_t>(plan.layers.size());
  steps_.push_back(std::make_unique<Step>(resources.account, 0, accepted, [this](Step& step) { Embed(step); }));
  order_.push_back(steps_.back().get());
  for (std::int64_t l = 0; l < layers; ++l) {
    layers_.push_back(std::make_unique<AttentionWork>(plan.layers[static_cast<std::size_t>(l)], DataOf(l),
                                                      resources.account, resources.matmuls,
                                                      resources.watcher.SinksOf(l), absl::InfinitePast()));
    const std::int64_t scratch = l + 1 < layers ? 0 : plan.unembedding_scratch();
    steps_.push_back(std::make_unique<Step>(resources.account, scratch, absl::InfinitePast(),
                                            [this, l](Step& step) { Join(l, step); }));
    order_.push_back(layers_.back().get());
    order_.push_back(steps_.back().get());
  }
}

StackRun::~StackRun() = default;

AttentionData StackRun::DataOf(std::int64_t layer) const {
  const auto l = static_cast<std::size_t>(layer);
  AttentionData data;
  data.embeddings = {TensorKind::kF32,
                     {plan_.tokens, plan_.width},
                     reinterpret_cast<const std::byte*>(ReadThrough(stack_.norms[l]).data())};
  data.layer = stack_.layers[l];
  return data;
}

template <typename Make>
std::unique_ptr<Phase> StackRun::EachRow(Make make, const NormView& next) {
  auto phase = std::make_unique<Fill>();
  phase->Add(plan_.tokens, std::max<std::int64_t>(1, kPiece / plan_.width),
             [this, make = std::move(make), &next](std::int64_t first, std::int64_t n) {
               for (std::int64_t t = first; t < first + n; ++t) {
                 float* row = Row(stream_, t);
                 make(t, row);
                 if (NormIsThere(next)) NormaliseRow(row, plan_.width, next, stack_.norm_epsilon, Row(normed_, t));
               }
             });
  return phase;
}

void StackRun::Embed(Step& step) {
  const auto embed = [this](std::int64_t t, float* row) {
    std::copy_n(stack_.token_embedding + ids_[static_cast<std::size_t>(t)] * plan_.width, plan_.width, row);
    if (stack_.position_embedding != nullptr) {
      AddRow(row, stack_.position_embedding + t * plan_.width, plan_.width);
    }
  };
  step.Add(EachRow(embed, stack_.norms.front()));
}

void StackRun::Join(std::int64_t layer, Step& step) {
  const auto l = static_cast<std::size_t>(layer);
  AttentionResult result = layers_[l]->TakeResult();
  // Its projections are not needed while the next layer makes its own.
  layers_[l].reset();
  resources_.watcher.Ended(layer);
  const Dimensions& d = plan_.layers[l].spec.dims;
  for (std::int64_t h = 0; h < d.query_heads; ++h) {
    const float* row = result.head_outputs.floats() + (h * d.query_tokens + d.query_tokens - 1) * d.value_head_size;
    last_heads_[l].insert(last_heads_[l].end(), row, row + d.value_head_size);
  }
  const auto add = [this, output = std::make_shared<const OwnedTensor>(std::move(result.output))](
                       std::int64_t t, float* row) { AddRow(row, output->floats() + t * plan_.width, plan_.width); };
  const bool last = l + 1 == stack_.norms.size();
  step.Add(EachRow(add, last ? stack_.final_norm : stack_.norms[l + 1]));
  if (last) Unembed(step);
}

void StackRun::Unembed(Step& step) {
  LinearMap map;
  map.batches = 1;
  map.tokens = plan_.logits ? plan_.tokens : 1;
  map.fan_in = plan_.width;
  map.fan_out = plan_.words;
  map.input = Row(ReadThrough(stack_.final_norm), plan_.tokens - map.tokens);
  map.weights = stack_.unembedding;
  if (stack_.unembedding_bias != nullptr) {
    map.bias = {TensorKind::kF32, {plan_.words}, reinterpret_cast<const std::byte*>(stack_.unembedding_bias)};
  }
  if (plan_.logits) {
    logits_ = MakeTensor(TensorKind::kF32, {plan_.tokens, plan_.words});
    map.output = reinterpret_cast<std::byte*>(logits_.floats());
  } else {
    last_logits_ = FloatBuffer(resources_.account, MemoryUse::kProjection, plan_.words);
    map.output = reinterpret_cast<std::byte*>(last_logits_.data());
  }
  auto linear = std::make_unique<Linear>(resources_.matmuls, plan_.unembedding, /*allow_non_finite=*/false);
  linear->Add(map);
  step.Add(std::move(linear));
}

const float* StackRun::last_logits() const {
  return plan_.logits ? logits_.floats() + (plan_.tokens - 1) * plan_.words : last_logits_.data();
}

}  // namespace headlight
