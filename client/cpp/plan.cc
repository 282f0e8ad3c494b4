#include "client/cpp/plan.h"

#include "client/cpp/streaming.h"
#include "client/cpp/tensors.h"

namespace headlight::client {
namespace {

v1::LayerWeightsSpec SpecOf(const v1::LayerWeights& weights) {
  v1::LayerWeightsSpec spec;
  if (weights.has_query()) *spec.mutable_query() = client::SpecOf(weights.query());
  if (weights.has_key()) *spec.mutable_key() = client::SpecOf(weights.key());
  if (weights.has_value()) *spec.mutable_value() = client::SpecOf(weights.value());
  if (weights.has_output()) *spec.mutable_output() = client::SpecOf(weights.output());
  if (weights.has_query_bias()) *spec.mutable_query_bias() = client::SpecOf(weights.query_bias());
  if (weights.has_key_bias()) *spec.mutable_key_bias() = client::SpecOf(weights.key_bias());
  if (weights.has_value_bias()) *spec.mutable_value_bias() = client::SpecOf(weights.value_bias());
  if (weights.has_output_bias()) *spec.mutable_output_bias() = client::SpecOf(weights.output_bias());
  return spec;
}

v1::SelfAttentionSpec SpecOf(const v1::SelfAttention& input) {
  v1::SelfAttentionSpec spec;
  if (input.has_embeddings()) *spec.mutable_embeddings() = client::SpecOf(input.embeddings());
  if (input.has_seeded_embeddings()) *spec.mutable_seeded_embeddings() = input.seeded_embeddings();
  if (input.has_context()) *spec.mutable_context() = client::SpecOf(input.context());
  if (input.has_layer_weights()) *spec.mutable_layer_weights() = SpecOf(input.layer_weights());
  if (input.weights_case() == v1::SelfAttention::kLayer) spec.set_layer(input.layer());
  if (input.has_seeded_weights()) *spec.mutable_seeded_weights() = input.seeded_weights();
  return spec;
}

v1::QueryKeyValueSpec SpecOf(const v1::QueryKeyValue& input) {
  v1::QueryKeyValueSpec spec;
  if (input.has_query()) *spec.mutable_query() = client::SpecOf(input.query());
  if (input.has_key()) *spec.mutable_key() = client::SpecOf(input.key());
  if (input.has_value()) *spec.mutable_value() = client::SpecOf(input.value());
  if (input.has_part()) *spec.mutable_part() = input.part();
  return spec;
}

}  // namespace

v1::TensorSpec SpecOf(const v1::Tensor& tensor) {
  v1::TensorSpec spec;
  *spec.mutable_shape() = tensor.shape();
  spec.set_kind(KindOf(tensor));
  return spec;
}

v1::PlanAttentionRequest PlanRequestOf(const v1::AttendRequest& request) {
  v1::PlanAttentionRequest plan;
  if (request.has_self_attention()) *plan.mutable_self_attention() = SpecOf(request.self_attention());
  if (request.has_query_key_value()) *plan.mutable_query_key_value() = SpecOf(request.query_key_value());
  if (request.has_options()) *plan.mutable_options() = request.options();
  if (request.has_outputs()) *plan.mutable_outputs() = request.outputs();
  plan.set_priority(request.priority());
  if (request.options().mask().has_tensor()) {
    *plan.mutable_mask_tensor() = SpecOf(request.options().mask().tensor());
    plan.mutable_options()->mutable_mask()->clear_tensor();
  }
  if (request.options().position().learned().has_table()) {
    *plan.mutable_learned_table() = SpecOf(request.options().position().learned().table());
    plan.mutable_options()->mutable_position()->mutable_learned()->clear_table();
  }
  plan.set_streamed(NeedsStream(plan));
  return plan;
}

}  // namespace headlight::client
