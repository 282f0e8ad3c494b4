// A stack of attention-only layers over one text, as works for one Sequence: x = token + position embedding; for each
// layer x += layer(norm(x)); logits = final norm(x) unembedding + bias. Pre-norm as in GPT-2; x is the residual stream
// of "A Mathematical Framework for Transformer Circuits" (Elhage et al. 2021).
#ifndef HEADLIGHT_SERVER_ENGINE_STACK_RUN_H_
#define HEADLIGHT_SERVER_ENGINE_STACK_RUN_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "server/engine/attention.h"
#include "server/kernels/layer_norm.h"
#include "server/plan/stack_plan.h"

namespace headlight {

// A stack's numbers, float32. Borrowed. Letters: E width, V words, P positions.
struct StackViews {
  std::int64_t width = 0;                     // E
  std::int64_t words = 0;                     // V
  const float* token_embedding = nullptr;     // [V, E]
  const float* position_embedding = nullptr;  // [P, E], or null
  std::vector<LayerViews> layers;
  std::vector<NormView> norms;  // one per layer
  NormView final_norm;
  double norm_epsilon = 0;
  const float* unembedding = nullptr;       // [E, V]
  const float* unembedding_bias = nullptr;  // [V], or null
};

// Who looks at layers as they run.
class LayerWatcher {
 public:
  virtual ~LayerWatcher() = default;

  // Asked once for each layer, before anything runs; the sinks outlive the layer.
  virtual std::vector<ScoreSink*> SinksOf(std::int64_t layer) = 0;
  // On a worker: the layer has ended and does not know its sinks any more.
  virtual void Ended(std::int64_t layer) = 0;
};

// Fails as AttentionWork does; a number beyond float32 is told of "self_attention".
class StackRun {
 public:
  // What a run works with; outlives it.
  struct Resources {
    MemoryAccount& account;
    MatmulCache& matmuls;
    LayerWatcher& watcher;
  };

  // Everything outlives it. `ids`: tokens of the plan, each a word; at most P where there are positions. `accepted` is
  // when waiting began.
  StackRun(const StackPlan& plan, const StackViews& stack, const std::vector<std::int64_t>& ids,
           const Resources& resources, absl::Time accepted);
  ~StackRun();

  // What has to run, in this order.
  const std::vector<PhasedWork*>& order() const { return order_; }

  // Of the last token, when it has: the residual stream after the last layer [E], the output of each head of a layer
  // before the output matrix [Hq, Dv], 0 for heads that are off, and the logits [V].
  const float* last_row() const { return Row(stream_, plan_.tokens - 1); }
  const float* last_heads(std::int64_t layer) const { return last_heads_[static_cast<std::size_t>(layer)].data(); }
  const float* last_logits() const;
  // [T, V], or empty where the plan does not say so.
  OwnedTensor TakeLogits() { return std::move(logits_); }

 private:
  class Step;

  float* Row(const FloatBuffer& rows, std::int64_t t) const { return rows.data() + t * plan_.width; }
  static bool NormIsThere(const NormView& norm) { return norm.weight != nullptr; }
  // What reads `norm` of the stream: it is in `normed_`, or the stream itself where there is no norm.
  const FloatBuffer& ReadThrough(const NormView& norm) const { return NormIsThere(norm) ? normed_ : stream_; }
  AttentionData DataOf(std::int64_t layer) const;
  // Calls make(row) for every row of the stream, then normalises it by `next`.
  template <typename Make>
  std::unique_ptr<Phase> EachRow(Make make, const NormView& next);
  void Embed(Step& step);
  // Adds the layer's output to the stream.
  void Join(std::int64_t layer, Step& step);
  void Unembed(Step& step);

  const StackPlan& plan_;
  const StackViews& stack_;
  const std::vector<std::int64_t>& ids_;
  const Resources resources_;
  FloatBuffer stream_, normed_;  // [T, E]
  std::vector<std::unique_ptr<AttentionWork>> layers_;
  std::vector<std::unique_ptr<Step>> steps_;  // the first, and one after each layer
  std::vector<std::vector<float>> last_heads_;
  OwnedTensor logits_;
  FloatBuffer last_logits_;
  std::vector<PhasedWork*> order_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_STACK_RUN_H_
