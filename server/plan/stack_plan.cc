#include "server/plan/stack_plan.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

constexpr std::int64_t kFloat = sizeof(float);
// Protobuf's framing and small fields, generously: of one head (statistics, attribution), one token, one answer.
constexpr std::int64_t kHeadBytes = 256;
constexpr std::int64_t kTokenBytes = 16;
constexpr std::int64_t kAnswerBytes = 4096;
// What statistics keep of a row of a head while its layer runs.
constexpr std::int64_t kStatisticsRow = 64;

ProblemRequest LayerRequest(const StackForm& stack, const StackWish& wish, std::size_t layer) {
  SelfAttentionForm form;
  form.embeddings = TensorForm{TensorKind::kF32, {wish.tokens, stack.width}, wish.tokens * stack.width * kFloat};
  form.weights = WeightsSource::kNamed;
  form.layer_name = "stack";
  form.layer = stack.layers[layer];
  ProblemRequest request;
  request.input = std::move(form);
  if (stack.causal) request.mask.causal = CausalForm{CausalAlignment::kTopLeft, std::nullopt};
  if (!wish.head_gains.empty()) request.head_gains = wish.head_gains[layer];
  request.outputs.head_outputs = true;
  request.outputs.head_statistics = true;
  if (wish.maps) request.outputs.maps.emplace_back();
  return request;
}

// What of a layer is there beside its workspace while it runs: output, head outputs, and rows of statistics.
std::int64_t ResultBytes(const ExecutionPlan& plan) {
  const Dimensions& d = plan.spec.dims;
  return d.query_tokens * ((plan.spec.OutputShape().back() + d.query_heads * d.value_head_size) * kFloat +
                           d.query_heads * kStatisticsRow);
}

std::int64_t MapBytes(const ExecutionPlan& plan) {
  const Dimensions& d = plan.spec.dims;
  return plan.spec.outputs.maps.empty() ? 0 : d.query_heads * d.query_tokens * d.key_tokens * kFloat;
}

absl::Status CheckSizes(const StackPlan& plan, const Limits& limits) {
  Violations violations;
  if (plan.flops > limits.max_flops) {
    violations.AddTooExpensive("stack", absl::StrCat(plan.flops, " FLOPs"),
                               absl::StrCat("at most ", limits.max_flops, " FLOPs a call"));
  }
  if (const std::int64_t workspace = plan.WorkspaceTotal(1); workspace > limits.max_workspace_bytes) {
    violations.AddTooExpensive("stack", absl::StrCat(workspace, " bytes of workspace"),
                               absl::StrCat("at most ", limits.max_workspace_bytes));
  }
  if (!violations.empty()) return violations.ToStatus();
  if (plan.response_bytes <= limits.max_response_bytes) return absl::OkStatus();
  return ResponseTooLarge(plan.logits ? "logits" : "maps", plan.response_bytes, limits.max_response_bytes);
}

}  // namespace

std::int64_t StackPlan::WorkspaceTotal(std::int64_t lanes) const {
  std::int64_t most = unembedding_scratch() * kFloat * lanes;
  for (const ExecutionPlan& layer : layers) most = std::max(most, layer.WorkspaceTotal(lanes) + ResultBytes(layer));
  return stream_bytes + most;
}

absl::StatusOr<StackPlan> PlanStack(const StackForm& stack, const StackWish& wish, const Limits& limits,
                                    Processor processor) {
  const auto count = static_cast<std::int64_t>(stack.layers.size());
  if (count < 1 || count > kMostStackLayers) {
    Violations violations;
    violations.AddTooExpensive("stack", absl::StrCat(count, " layers"), absl::StrCat("1 to ", kMostStackLayers));
    return violations.ToStatus();
  }
  StackPlan plan;
  plan.tokens = wish.tokens;
  plan.width = stack.width;
  plan.words = stack.words;
  plan.logits = wish.logits;
  plan.unembedding = ChooseProjectionBlocks(stack.width);
  const std::int64_t rows = wish.logits ? wish.tokens : 1;
  // Attribution reads the unembedding twice, and each layer's output matrix for two directions.
  plan.flops = 2 * (rows + 2) * stack.width * stack.words;
  plan.response_bytes = kAnswerBytes + wish.text_bytes + wish.tokens * kTokenBytes;
  if (wish.logits) plan.response_bytes += wish.tokens * stack.words * kFloat;
  plan.stream_bytes = (2 * wish.tokens * stack.width + stack.words) * kFloat;
  for (std::size_t i = 0; i < stack.layers.size(); ++i) {
    absl::StatusOr<ProblemSpec> spec = CheckProblem(LayerRequest(stack, wish, i), limits);
    if (!spec.ok()) return RenameFields(spec.status(), "self_attention", "stack");
    const ExecutionPlan& layer = plan.layers.emplace_back(DraftPlan(*std::move(spec), processor));
    const Dimensions& d = layer.spec.dims;
    plan.flops += layer.flops + layer.map_flops + 4 * d.query_heads * d.value_head_size * stack.width;
    plan.response_bytes += MapBytes(layer) + d.query_heads * kHeadBytes;
  }
  if (absl::Status status = CheckSizes(plan, limits); !status.ok()) return status;
  return plan;
}

}  // namespace headlight
