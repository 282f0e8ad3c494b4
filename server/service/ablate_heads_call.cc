#include "server/service/ablate_heads_call.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/service/costs.h"
#include "server/service/decode_fields.h"
#include "server/service/encode.h"

namespace headlight {
namespace {

// Query heads as layer and options say them; 0 where they do not, which the check of the problem tells.
std::int64_t QueryHeadsOf(const ProblemRequest& request) {
  const LayerForm* layer = nullptr;
  if (const auto* self = std::get_if<SelfAttentionForm>(&request.input); self != nullptr && self->layer.has_value()) {
    layer = &*self->layer;
  }
  if (layer != nullptr && layer->query_heads > 0) return layer->query_heads;
  if (request.query_heads > 0) return request.query_heads;
  const bool splits = layer != nullptr && layer->query.has_value() && !layer->query->shape.empty();
  return splits && request.head_size > 0 ? layer->query->shape.back() / request.head_size : 0;
}

void CheckHeads(const v1::AblateHeadsRequest& message, std::int64_t max_heads, ProblemRequest& request) {
  const std::int64_t heads = QueryHeadsOf(request);
  if (const std::int64_t most = heads > 0 ? heads : max_heads; message.heads_size() > most) {
    request.violations.Add("heads", absl::StrCat(message.heads_size(), " heads"), absl::StrCat("at most ", most));
    return;
  }
  std::set<std::uint32_t> seen;
  for (int i = 0; i < message.heads_size(); ++i) {
    const std::uint32_t head = message.heads(i);
    const std::string field = absl::StrCat("heads[", i, "]");
    if (heads > 0 && head >= heads) {
      request.violations.Add(field, absl::StrCat(head), absl::StrCat("0 to ", heads - 1));
    } else if (!seen.insert(head).second) {
      request.violations.Add(field, absl::StrCat(head, " once more"), "each head once");
    }
  }
}

// What only this request can have wrong.
void CheckAblation(const v1::AblateHeadsRequest& message, std::int64_t max_heads, ProblemRequest& request) {
  if (message.mode() != v1::ABLATION_MODE_ZERO && message.mode() != v1::ABLATION_MODE_MEAN) {
    ReportChoice(request, "mode", message.mode(), "ZERO or MEAN");
  }
  CheckHeads(message, max_heads, request);
  if (message.options().head_gains_size() > 0) {
    request.violations.Add("options.head_gains", absl::StrCat(message.options().head_gains_size(), " numbers"),
                           "none: heads are on, or off by `heads`");
  }
  if (message.options().allow_non_finite()) {
    request.violations.Add("options.allow_non_finite", "true", "false: what is not finite has no length to compare");
  }
  if (!v1::Priority_IsValid(message.priority())) {
    ReportChoice(request, "priority", message.priority(), "INTERACTIVE or BATCH");
  }
}

// What is told of "self_attention" in this request's own paths.
absl::Status InOwnFields(const absl::Status& status) {
  const absl::Status layer = RenameFields(status, "self_attention.context", "layer");
  return RenameFields(RenameFields(layer, "self_attention.", ""), "self_attention", "embeddings");
}

void EncodeChange(const OutputChange& change, v1::OutputChange* message) {
  message->set_relative_l2(change.relative_l2);
  message->set_cosine(change.cosine);
}

// Protobuf's framing, generously, and of each head a loss and a step.
constexpr std::int64_t kAnswerOverhead = 1024;
constexpr std::int64_t kBytesPerHead = 64;

}  // namespace

absl::Status AblateHeadsCall::Accept(const Request& request, absl::Time deadline) {
  if (const absl::Status planned = Plan(request); !planned.ok()) return InOwnFields(planned);
  if (absl::Status admitted = Admit(request.priority(), deadline); !admitted.ok()) return admitted;
  MemoryAccount& account = ticket_->account();
  attention_ = std::make_unique<AttentionWork>(*plan_, data_, account, shared_.matmuls, std::vector<ScoreSink*>(),
                                               ticket_->accepted());
  ablated_ = std::make_unique<AblationWork>(*plan_, data_, ablation_, *attention_, account, shared_.matmuls);
  work_ = std::make_unique<Sequence>(std::vector<PhasedWork*>{attention_.get(), ablated_.get()});
  return absl::OkStatus();
}

absl::Status AblateHeadsCall::Plan(const Request& request) {
  DecodedCall decoded =
      DecodeLayered(request.embeddings(), request.has_layer_weights() ? &request.layer_weights() : nullptr,
                    request.layer(), request.options(), shared_.layers);
  CheckAblation(request, shared_.limits.max_heads, decoded.request);
  absl::StatusOr<ProblemSpec> spec = CheckProblem(decoded.request, shared_.limits);
  if (!spec.ok()) return spec.status();
  layer_ = decoded.layer;
  data_ = decoded.data;
  ablation_ = {{request.heads().begin(), request.heads().end()},
               request.mode() == v1::ABLATION_MODE_MEAN ? AblationMode::kMean : AblationMode::kZero,
               spec->kind};
  // Both stay in the process; the answer has a bound of its own.
  spec->outputs = OutputSpec();
  spec->outputs.head_outputs = true;
  spec->outputs.max_response_bytes = std::numeric_limits<std::int64_t>::max();
  absl::StatusOr<ExecutionPlan> plan = MakePlan(*std::move(spec), shared_.limits, ThisProcessor());
  if (!plan.ok()) return plan.status();
  plan_ = *std::move(plan);
  const AblationCost cost = CostOfAblation(*plan_, data_, ablation_);
  if (absl::Status fits = CheckCost(cost); !fits.ok()) return fits;
  AddCost(*plan_);
  cost_.field = "embeddings";
  cost_.flops += cost.flops;
  cost_.bytes += static_cast<std::int64_t>(request.ByteSizeLong()) + cost.workspace +
                 cost.lane_scratch * shared_.pool.workers() + cost.answer;
  return absl::OkStatus();
}

absl::Status AblateHeadsCall::CheckCost(const AblationCost& cost) const {
  const Limits& limits = shared_.limits;
  Violations violations;
  if (const std::int64_t flops = plan_->flops + cost.flops; flops > limits.max_flops) {
    violations.AddTooExpensive("embeddings", absl::StrCat(flops, " FLOPs"),
                               absl::StrCat("at most ", limits.max_flops, " FLOPs a call"));
  }
  // The plan's answer is what is handed on: output and head outputs in float32.
  const std::int64_t workspace = plan_->WorkspaceTotal(1) + plan_->response_bytes + cost.workspace + cost.lane_scratch;
  if (workspace > limits.max_workspace_bytes) {
    violations.AddTooExpensive("embeddings", absl::StrCat(workspace, " bytes of workspace"),
                               absl::StrCat("at most ", limits.max_workspace_bytes));
  }
  if (!violations.empty()) return violations.ToStatus();
  const std::int64_t answer = cost.answer + kAnswerOverhead + kBytesPerHead * plan_->spec.dims.query_heads;
  if (answer <= limits.max_response_bytes) return absl::OkStatus();
  return ResponseTooLarge("embeddings", answer, limits.max_response_bytes);
}

void AblateHeadsCall::Compute(ComputePool::Done done) {
  AdmittedCall::Compute([done = std::move(done)](const absl::Status& status) { done(InOwnFields(status)); });
}

void AblateHeadsCall::Encode(Response* response) {
  const HeadProducts& products = ablated_->products();
  EncodeTensor(ablated_->TakeOutput(), response->mutable_output());
  EncodeChange(ChangeWithout(products, ablation_.heads), response->mutable_change());
  for (std::int64_t h = 0; h < products.heads(); ++h) {
    v1::HeadLoss* loss = response->add_losses();
    loss->set_head(static_cast<std::uint32_t>(h));
    EncodeChange(ChangeWithout(products, {h}), loss->mutable_change());
  }
  for (const RedundancyStep& step : RankByRedundancy(products)) {
    v1::RedundancyStep* message = response->add_redundancy();
    message->set_head(static_cast<std::uint32_t>(step.head));
    EncodeChange(step.change, message->mutable_change());
  }
  if (ablation_.mode == AblationMode::kMean) {
    EncodeTensor(ablated_->TakeMeanContribution(), response->mutable_mean_contribution());
  }
  if (layer_ != nullptr) {
    response->set_layer(layer_->name());
    response->set_layer_id(layer_->facts().id);
  }
  ExecutionRecord record = attention_->Record();
  record.times[Stage::kProject] += ablated_->times()[Stage::kProject];
  record.times[Stage::kMaps] += ablated_->times()[Stage::kMaps];
  record.total_seconds += ablated_->seconds();
  record.workers = std::max(record.workers, ablated_->lanes());
  EncodeExecution(*plan_, record, response->mutable_execution());
}

}  // namespace headlight
