#include "server/service/decode.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/service/decode_fields.h"

namespace headlight {
namespace {

// Requests with data and plans without have the same fields: messages of tensors, and of TensorSpecs.
template <typename Weights>
LayerForm DecodeWeights(const Weights& message, LayerViews& views) {
  LayerForm form;
  form.query = DecodeTensor(message.has_query(), message.query(), views.query);
  form.key = DecodeTensor(message.has_key(), message.key(), views.key);
  form.value = DecodeTensor(message.has_value(), message.value(), views.value);
  form.output = DecodeTensor(message.has_output(), message.output(), views.output);
  form.query_bias = DecodeTensor(message.has_query_bias(), message.query_bias(), views.query_bias);
  form.key_bias = DecodeTensor(message.has_key_bias(), message.key_bias(), views.key_bias);
  form.value_bias = DecodeTensor(message.has_value_bias(), message.value_bias(), views.value_bias);
  form.output_bias = DecodeTensor(message.has_output_bias(), message.output_bias(), views.output_bias);
  return form;
}

void DecodeNamed(const std::string& name, const LayerStore& layers, SelfAttentionForm& form, DecodedCall& call) {
  form.weights = WeightsSource::kNamed;
  form.layer_name = name;
  call.layer = layers.FindLayer(name);
  if (call.layer == nullptr) return;
  form.layer = call.layer->form();
  call.data.layer = call.layer->views();
}

template <typename Self>
void DecodeLayer(const Self& message, const LayerStore& layers, SelfAttentionForm& form, DecodedCall& call) {
  switch (message.weights_case()) {
    case Self::kLayerWeights: form.layer = DecodeWeights(message.layer_weights(), call.data.layer); break;
    case Self::kLayer: DecodeNamed(message.layer(), layers, form, call); break;
    case Self::kSeededWeights:
      form.weights = WeightsSource::kSeeded;
      form.weights_seed = message.seeded_weights().seed();
      break;
    case Self::WEIGHTS_NOT_SET:
      call.request.violations.Add("self_attention.weights", "nothing", "layer_weights, layer or seeded_weights");
      break;
  }
}

template <typename Self>
void DecodeSelfAttention(const Self& message, const LayerStore& layers, DecodedCall& call) {
  SelfAttentionForm form;
  switch (message.source_case()) {
    case Self::kEmbeddings: form.embeddings = DecodeTensor(true, message.embeddings(), call.data.embeddings); break;
    case Self::kSeededEmbeddings:
      form.embeddings_seed = message.seeded_embeddings().seed();
      form.seeded_tokens = message.seeded_embeddings().tokens();
      form.seeded_width = message.seeded_embeddings().width();
      break;
    case Self::SOURCE_NOT_SET:
      call.request.violations.Add("self_attention.embeddings", "nothing", "embeddings or seeded_embeddings");
      DecodeLayer(message, layers, form, call);  // for what is missing there
      return;
  }
  form.context = DecodeTensor(message.has_context(), message.context(), call.data.context);
  DecodeLayer(message, layers, form, call);
  call.request.input = std::move(form);
}

template <typename Given>
void DecodeQueryKeyValue(const Given& message, DecodedCall& call) {
  QueryKeyValueForm form;
  form.query = DecodeTensor(message.has_query(), message.query(), call.data.query);
  form.key = DecodeTensor(message.has_key(), message.key(), call.data.key);
  form.value = DecodeTensor(message.has_value(), message.value(), call.data.value);
  if (message.has_part()) form.part = {message.part().begin(), message.part().end(), message.part().total_keys()};
  call.request.input = std::move(form);
}

template <typename Message>
DecodedCall DecodeCall(const Message& message, const LayerStore& layers) {
  DecodedCall call;
  switch (message.input_case()) {
    case Message::kSelfAttention: DecodeSelfAttention(message.self_attention(), layers, call); break;
    case Message::kQueryKeyValue: DecodeQueryKeyValue(message.query_key_value(), call); break;
    case Message::INPUT_NOT_SET:
      call.request.violations.Add("input", "nothing", "self_attention or query_key_value");
      break;
  }
  DecodeOptions(message.options(), call);
  DecodeOutputs(message.outputs(), call.request);
  if (!v1::Priority_IsValid(message.priority())) {
    ReportChoice(call.request, "priority", message.priority(), "INTERACTIVE or BATCH");
  }
  return call;
}

// What a plan may leave out of tensors within the options, and where it says more of them.
void DecodePlannedOptions(const v1::PlanAttentionRequest& message, ProblemRequest& request) {
  TensorView none;
  const auto plan = [&](bool has_spec, const v1::TensorSpec& spec, absl::string_view field,
                        std::optional<TensorForm>& form) {
    if (form.has_value()) form->payload_bytes.reset();
    if (!has_spec) return;
    if (form.has_value()) request.violations.Add(std::string(field), "two tensors", "this or the one in the options");
    form = DecodeTensor(true, spec, none);
  };
  const v1::Tensor& mask = message.options().mask().tensor();
  plan(message.has_mask_tensor(), message.mask_tensor(), "mask_tensor", request.mask.tensor);
  if (!message.has_mask_tensor() && request.mask.tensor.has_value() && mask.data_case() == v1::Tensor::DATA_NOT_SET) {
    request.mask.tensor->kind = TensorKind::kBool;
  }
  if (message.has_learned_table() && !message.options().position().has_learned()) {
    return request.violations.Add("learned_table", "a table", "none without options.position.learned");
  }
  plan(message.has_learned_table(), message.learned_table(), "learned_table", request.position.table);
}

// Every TensorSpec says its kind.
void CheckKind(ProblemRequest& request, const std::string& field, bool is_set, const v1::TensorSpec& spec) {
  if (!is_set || (v1::TensorKind_IsValid(spec.kind()) && spec.kind() != v1::TENSOR_KIND_UNSPECIFIED)) return;
  ReportChoice(request, field + ".kind", spec.kind(), "F32, F16, BF16 or BOOL");
}

void CheckKinds(const v1::PlanAttentionRequest& message, ProblemRequest& request) {
  const auto check = [&request](const std::string& field, bool is_set, const v1::TensorSpec& spec) {
    CheckKind(request, field, is_set, spec);
  };
  const v1::QueryKeyValueSpec& qkv = message.query_key_value();
  check("query_key_value.query", qkv.has_query(), qkv.query());
  check("query_key_value.key", qkv.has_key(), qkv.key());
  check("query_key_value.value", qkv.has_value(), qkv.value());
  const v1::SelfAttentionSpec& self = message.self_attention();
  check("self_attention.embeddings", self.has_embeddings(), self.embeddings());
  check("self_attention.context", self.has_context(), self.context());
  const v1::LayerWeightsSpec& layer = self.layer_weights();
  const std::string weights = "self_attention.layer_weights.";
  check(weights + "query", layer.has_query(), layer.query());
  check(weights + "key", layer.has_key(), layer.key());
  check(weights + "value", layer.has_value(), layer.value());
  check(weights + "output", layer.has_output(), layer.output());
  check(weights + "query_bias", layer.has_query_bias(), layer.query_bias());
  check(weights + "key_bias", layer.has_key_bias(), layer.key_bias());
  check(weights + "value_bias", layer.has_value_bias(), layer.value_bias());
  check(weights + "output_bias", layer.has_output_bias(), layer.output_bias());
  check("mask_tensor", message.has_mask_tensor(), message.mask_tensor());
  check("learned_table", message.has_learned_table(), message.learned_table());
}

template <typename Message>
DecodedCall DecodeWithTokens(const Message& message, const LayerStore& layers) {
  DecodedCall call = DecodeCall(message, layers);
  call.request.tokens.assign(message.tokens().begin(), message.tokens().end());
  return call;
}

}  // namespace

void ReportChoice(ProblemRequest& request, absl::string_view field, int number, absl::string_view allowed) {
  request.violations.Add(std::string(field), number == 0 ? "UNSPECIFIED" : absl::StrCat("number ", number),
                         std::string(allowed));
}

void CheckName(const std::string& field, const std::string& name, const Limits& limits, Violations& violations) {
  const auto bytes = static_cast<std::int64_t>(name.size());
  if (bytes >= 1 && bytes <= limits.max_string_bytes) return;
  violations.Add(field, absl::StrCat(bytes, " bytes"), absl::StrCat("1 to ", limits.max_string_bytes, " bytes"));
}

absl::Status NotFoundByName(absl::string_view field, const std::string& name, absl::string_view what) {
  ErrorDetails details;
  details.reason = ErrorReason::kLayerNotFound;
  details.metadata[std::string(what)] = name;
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat(field, ": no ", what, " has this name or id; ListLayers lists those there are"),
                   details);
}

std::optional<TensorForm> DecodeTensor(bool is_set, const v1::Tensor& message, TensorView& view) {
  if (!is_set) return std::nullopt;
  view.shape.assign(message.shape().begin(), message.shape().end());
  const auto take = [&view](TensorKind kind, const std::string& bytes) {
    view.kind = kind;
    view.data = reinterpret_cast<const std::byte*>(bytes.data());
    return static_cast<std::int64_t>(bytes.size());
  };
  std::int64_t bytes = 0;
  switch (message.data_case()) {
    case v1::Tensor::kF32Values:
      view.data = reinterpret_cast<const std::byte*>(message.f32_values().values().data());
      bytes = std::int64_t{message.f32_values().values_size()} * WidthOf(TensorKind::kF32);
      break;
    case v1::Tensor::kF32Le: bytes = take(TensorKind::kF32, message.f32_le()); break;
    case v1::Tensor::kF16Le: bytes = take(TensorKind::kF16, message.f16_le()); break;
    case v1::Tensor::kBf16Le: bytes = take(TensorKind::kBF16, message.bf16_le()); break;
    case v1::Tensor::kBoolU8: bytes = take(TensorKind::kBool, message.bool_u8()); break;
    case v1::Tensor::DATA_NOT_SET: break;
  }
  return TensorForm{view.kind, view.shape, bytes};
}

std::optional<TensorForm> DecodeTensor(bool is_set, const v1::TensorSpec& spec, TensorView& /*view*/) {
  if (!is_set) return std::nullopt;
  TensorForm form;
  form.shape.assign(spec.shape().begin(), spec.shape().end());
  if (spec.kind() == v1::TENSOR_KIND_F16) form.kind = TensorKind::kF16;
  if (spec.kind() == v1::TENSOR_KIND_BF16) form.kind = TensorKind::kBF16;
  if (spec.kind() == v1::TENSOR_KIND_BOOL) form.kind = TensorKind::kBool;
  return form;
}

DecodedCall Decode(const v1::AttendRequest& message, const LayerStore& layers) {
  return DecodeWithTokens(message, layers);
}
DecodedCall Decode(const v1::CompareAlgorithmsRequest& message, const LayerStore& layers) {
  return DecodeWithTokens(message, layers);
}

DecodedCall Decode(const v1::PlanAttentionRequest& message, const LayerStore& layers) {
  DecodedCall call = DecodeCall(message, layers);
  DecodePlannedOptions(message, call.request);
  CheckKinds(message, call.request);
  return call;
}

DecodedCall DecodeLayered(const v1::Tensor& embeddings, const v1::LayerWeights* weights, const std::string& layer,
                          const v1::AttentionOptions& options, const LayerStore& layers) {
  DecodedCall call;
  SelfAttentionForm form;
  form.embeddings = DecodeTensor(true, embeddings, call.data.embeddings);
  if (weights != nullptr) {
    form.layer = DecodeWeights(*weights, call.data.layer);
  } else {
    DecodeNamed(layer, layers, form, call);
  }
  call.request.input = std::move(form);
  DecodeOptions(options, call);
  return call;
}

}  // namespace headlight
