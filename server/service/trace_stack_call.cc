#include "server/service/trace_stack_call.h"

#include <algorithm>
#include <utility>

#include "server/service/costs.h"
#include "server/service/decode_trace.h"
#include "server/service/encode.h"

namespace headlight {

absl::Status TraceStackCall::Accept(const Request& request, absl::Time deadline) {
  stack_ = shared_.layers.FindStack(request.stack());
  absl::StatusOr<DecodedTrace> decoded = DecodeTrace(request, stack_.get(), shared_.limits);
  if (!decoded.ok()) return decoded.status();
  absl::StatusOr<StackPlan> plan = PlanStack(FormOf(*stack_), decoded->wish, shared_.limits, ThisProcessor());
  if (!plan.ok()) return plan.status();
  plan_ = *std::move(plan);
  shape_ = ShapeOf(plan_->layers.front());
  cost_.flops = plan_->flops;
  cost_.bytes = static_cast<std::int64_t>(request.ByteSizeLong()) + plan_->WorkspaceTotal(shared_.pool.workers()) +
                plan_->response_bytes;
  cost_.field = "stack";
  if (absl::Status status = Admit(request.priority(), deadline); !status.ok()) return status;
  views_ = ViewsOf(*stack_);
  ids_ = std::move(decoded->ids);
  trace_ = std::make_unique<Trace>(*plan_, views_, ids_, decoded->attribution,
                                   Trace::Resources{ticket_->account(), shared_.matmuls}, ticket_->accepted());
  work_ = std::make_unique<Sequence>(trace_->order());
  return absl::OkStatus();
}

void TraceStackCall::Compute(ComputePool::Done done) {
  AdmittedCall::Compute(
      [done = std::move(done)](const absl::Status& status) { done(RenameFields(status, "self_attention", "stack")); });
}

const std::string* TraceStackCall::WordOf(std::int64_t id) const {
  return stack_->vocabulary.empty() ? nullptr : &stack_->vocabulary[static_cast<std::size_t>(id)];
}

void TraceStackCall::EncodeBet(const WordBet& bet, v1::Bet* message) const {
  message->set_id(bet.id);
  if (const std::string* word = WordOf(bet.id); word != nullptr) message->set_token(*word);
  message->set_logit(bet.logit);
  message->set_probability(bet.probability);
}

void TraceStackCall::Encode(Response* response) {
  response->mutable_token_ids()->Assign(ids_.begin(), ids_.end());
  for (const std::int64_t id : ids_) {
    if (const std::string* word = WordOf(id); word != nullptr) response->add_tokens(*word);
  }
  for (std::size_t l = 0; l < plan_->layers.size(); ++l) {
    v1::LayerTrace* layer = response->add_layers();
    const auto number = static_cast<std::int64_t>(l);
    for (MapResult& map : trace_->TakeMaps(number)) EncodeMap(std::move(map), layer->add_maps());
    EncodeStatistics(trace_->statistics(number), layer->mutable_head_statistics());
  }
  const Attribution& attribution = trace_->attribution();
  for (const WordBet& bet : attribution.bets) EncodeBet(bet, response->add_bets());
  EncodeBet(attribution.target, response->mutable_target());
  if (plan_->logits) EncodeTensor(trace_->TakeLogits(), response->mutable_logits());
  for (const HeadAttribution& head : attribution.heads) {
    v1::HeadAttribution* out = response->add_attributions();
    out->set_layer(static_cast<std::uint32_t>(head.layer));
    out->set_head(static_cast<std::uint32_t>(head.head));
    out->set_logit(head.logit);
    out->set_centered_logit(head.centered_logit);
  }
  response->set_embedding_logit(attribution.embedding_logit);
  response->set_bias_logit(attribution.bias_logit);
  response->set_stack(stack_->name);
  response->set_stack_id(stack_->id);
  EncodeSeconds(absl::ToDoubleSeconds(absl::Now() - began_), response->mutable_total());
}

}  // namespace headlight
