#include "server/analysis/circuit_swap.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "server/engine/fill.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

constexpr std::int64_t kPiece = std::int64_t{1} << 16;

const float* FloatsOf(const TensorView& tensor) { return reinterpret_cast<const float*>(tensor.data); }

std::vector<ScoreSink*> Pointers(const std::vector<std::unique_ptr<MapSink>>& sinks) {
  std::vector<ScoreSink*> pointers;
  for (const auto& sink : sinks) pointers.push_back(sink.get());
  return pointers;
}

}  // namespace

ProblemSpec WithoutAim(const ProblemSpec& spec, SwapHeads heads) {
  ProblemSpec rest = spec;
  rest.head_gains.assign(static_cast<std::size_t>(spec.dims.query_heads), 1);
  rest.head_gains[static_cast<std::size_t>(heads.aim)] = 0;
  MapSpec& map = rest.outputs.maps.emplace_back();
  map.heads = {heads.aim};
  map.batches = {0};
  map.rows = {{0, spec.dims.query_tokens}};
  map.keys = {0, spec.dims.key_tokens};
  return rest;
}

ProblemSpec AimAlone(const ProblemSpec& spec, SwapHeads heads) {
  ProblemSpec alone = spec;
  alone.head_gains.assign(static_cast<std::size_t>(spec.dims.query_heads), 0);
  alone.head_gains[static_cast<std::size_t>(heads.aim)] = 1;
  return alone;
}

std::int64_t SwapBytes(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  const ProjectionSpec& p = *spec.projection;
  return static_cast<std::int64_t>(sizeof(float)) * d.value_head_size *
         ((p.context_width + 1) * d.key_value_heads + d.query_heads * p.output_width);
}

// The layer's values and outputs with the cargo's in the aim's place.
class CircuitSwap::Copy final : public PhasedWork {
 public:
  Copy(CircuitSwap& swap, MemoryAccount& account) : PhasedWork(account, 1, absl::InfinitePast()), swap_(swap) {}

 private:
  void Build() override {
    auto fill = std::make_unique<Fill>();
    AddValues(*fill);
    AddOutputs(*fill);
    Add(std::move(fill));
  }

  void AddValues(Fill& fill) {
    const Dimensions& d = swap_.plan_.spec.dims;
    const std::int64_t width = d.key_value_heads * d.value_head_size;
    const auto add = [&](const TensorView& from, const FloatBuffer& to) {
      if (from.empty()) return;
      const float* source = FloatsOf(from);
      float* target = to.data();
      const std::int64_t size = d.value_head_size;
      const std::int64_t aim = d.KeyValueHead(swap_.heads_.aim) * size;
      const std::int64_t cargo = d.KeyValueHead(swap_.heads_.cargo) * size;
      fill.Add(to.size() / width, std::max<std::int64_t>(kPiece / width, 1), [=](std::int64_t first, std::int64_t n) {
        for (std::int64_t row = first; row < first + n; ++row) {
          std::copy_n(source + row * width, width, target + row * width);
          std::copy_n(source + row * width + cargo, size, target + row * width + aim);
        }
      });
    };
    add(swap_.layer_.value, swap_.values_);
    add(swap_.layer_.value_bias, swap_.value_bias_);
  }

  // By rows: those of the aim are the cargo's.
  void AddOutputs(Fill& fill) {
    if (swap_.layer_.output.empty()) return;
    const std::int64_t size = swap_.plan_.spec.dims.value_head_size;
    const std::int64_t width = swap_.plan_.spec.projection->output_width;
    const float* source = FloatsOf(swap_.layer_.output);
    float* target = swap_.outputs_.data();
    const SwapHeads heads = swap_.heads_;
    fill.Add(swap_.outputs_.size() / width, std::max<std::int64_t>(kPiece / width, 1),
             [=](std::int64_t first, std::int64_t n) {
               for (std::int64_t row = first; row < first + n; ++row) {
                 const std::int64_t from = row / size == heads.aim ? heads.cargo * size + row % size : row;
                 std::copy_n(source + from * width, width, target + row * width);
               }
             });
  }

  CircuitSwap& swap_;
};

// The rest of the layer and what the swapped head adds.
class CircuitSwap::Sum final : public PhasedWork {
 public:
  Sum(CircuitSwap& swap, MemoryAccount& account) : PhasedWork(account, 1, absl::InfinitePast()), swap_(swap) {}

 private:
  void Build() override {
    swap_.output_ = swap_.rest_->TakeResult().output;
    swap_.contribution_ = swap_.alone_->TakeResult().output;
    swap_.map_ = std::move(swap_.sinks_.front()->TakeResults().front().weights);
    const std::int64_t rows = swap_.output_.shape[0];
    const std::int64_t width = swap_.output_.shape[1];
    auto fill = std::make_unique<Fill>();
    fill->Add(rows, std::max<std::int64_t>(kPiece / width, 1), [this, width](std::int64_t first, std::int64_t n) {
      for (std::int64_t row = first; row < first + n; ++row) {
        float* added = swap_.contribution_.floats() + row * width;
        if (swap_.layer_.output.empty()) MoveToCargo(added);
        AddRow(swap_.output_.floats() + row * width, added, width);
      }
    });
    Add(std::move(fill));
  }

  // Without an output matrix a head writes into its own columns, and the cargo's are the cargo's.
  void MoveToCargo(float* row) const {
    const SwapHeads heads = swap_.heads_;
    if (heads.aim == heads.cargo) return;
    const std::int64_t size = swap_.plan_.spec.dims.value_head_size;
    std::copy_n(row + heads.aim * size, size, row + heads.cargo * size);
    std::fill_n(row + heads.aim * size, size, 0.0F);
  }

  CircuitSwap& swap_;
};

CircuitSwap::CircuitSwap(const ExecutionPlan& rest, const ExecutionPlan& alone, SwapHeads heads,
                         const AttentionData& data, MemoryAccount& account, MatmulCache& matmuls)
    : plan_(rest), heads_(heads), layer_(data.layer), sinks_(MakeMapSinks(rest.spec)) {
  const auto room = [&account](const TensorView& like) {
    return like.empty() ? FloatBuffer()
                        : FloatBuffer(account, MemoryUse::kProjection, ElementCount(like.shape).value_or(0));
  };
  values_ = room(layer_.value);
  value_bias_ = room(layer_.value_bias);
  outputs_ = room(layer_.output);
  AttentionData swapped = data;
  const auto put = [](const FloatBuffer& from, TensorView& view) {
    if (!view.empty()) view.data = reinterpret_cast<const std::byte*>(from.data());
  };
  put(values_, swapped.layer.value);
  put(value_bias_, swapped.layer.value_bias);
  put(outputs_, swapped.layer.output);
  swapped.layer.output_bias = {};  // the rest of the layer has it
  copy_ = std::make_unique<Copy>(*this, account);
  rest_ = std::make_unique<AttentionWork>(rest, data, account, matmuls, Pointers(sinks_), absl::InfinitePast());
  alone_ = std::make_unique<AttentionWork>(alone, swapped, account, matmuls, std::vector<ScoreSink*>(),
                                           absl::InfinitePast());
  sum_ = std::make_unique<Sum>(*this, account);
}

CircuitSwap::~CircuitSwap() = default;

std::vector<PhasedWork*> CircuitSwap::order() { return {copy_.get(), rest_.get(), alone_.get(), sum_.get()}; }

}  // namespace headlight
