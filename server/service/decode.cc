#include "server/service/decode.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/layers/layer.h"
#include "server/service/decode_fields.h"

namespace headlight {
namespace {

LayerForm DecodeWeights(const v1::LayerWeights& message, LayerViews& views) {
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

void DecodeLayer(const v1::SelfAttention& message, SelfAttentionForm& form, DecodedCall& call) {
  switch (message.weights_case()) {
    case v1::SelfAttention::kLayerWeights: form.layer = DecodeWeights(message.layer_weights(), call.data.layer); break;
    case v1::SelfAttention::kLayer:
      form.weights = WeightsSource::kNamed;
      form.layer_name = message.layer();
      if (const Layer* layer = FindLayer(message.layer()); layer != nullptr) {
        form.layer = layer->form();
        call.data.layer = layer->views();
      }
      break;
    case v1::SelfAttention::kSeededWeights:
      form.weights = WeightsSource::kSeeded;
      form.weights_seed = message.seeded_weights().seed();
      break;
    case v1::SelfAttention::WEIGHTS_NOT_SET:
      call.request.violations.Add("self_attention.weights", "nothing", "layer_weights, layer or seeded_weights");
      break;
  }
}

void DecodeSelfAttention(const v1::SelfAttention& message, DecodedCall& call) {
  SelfAttentionForm form;
  switch (message.source_case()) {
    case v1::SelfAttention::kEmbeddings:
      form.embeddings = DecodeTensor(true, message.embeddings(), call.data.embeddings);
      break;
    case v1::SelfAttention::kSeededEmbeddings:
      form.embeddings_seed = message.seeded_embeddings().seed();
      form.seeded_tokens = message.seeded_embeddings().tokens();
      form.seeded_width = message.seeded_embeddings().width();
      break;
    case v1::SelfAttention::SOURCE_NOT_SET:
      call.request.violations.Add("self_attention.embeddings", "nothing", "embeddings or seeded_embeddings");
      return;
  }
  form.context = DecodeTensor(message.has_context(), message.context(), call.data.context);
  DecodeLayer(message, form, call);
  call.request.input = std::move(form);
}

void DecodeQueryKeyValue(const v1::QueryKeyValue& message, DecodedCall& call) {
  QueryKeyValueForm form;
  form.query = DecodeTensor(message.has_query(), message.query(), call.data.query);
  form.key = DecodeTensor(message.has_key(), message.key(), call.data.key);
  form.value = DecodeTensor(message.has_value(), message.value(), call.data.value);
  call.request.input = std::move(form);
}

// The two requests have the same fields.
template <typename Message>
DecodedCall DecodeCall(const Message& message) {
  DecodedCall call;
  switch (message.input_case()) {
    case Message::kSelfAttention: DecodeSelfAttention(message.self_attention(), call); break;
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
  call.request.tokens.assign(message.tokens().begin(), message.tokens().end());
  return call;
}

}  // namespace

void ReportChoice(ProblemRequest& request, absl::string_view field, int number, absl::string_view allowed) {
  request.violations.Add(std::string(field), number == 0 ? "UNSPECIFIED" : absl::StrCat("number ", number),
                         std::string(allowed));
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

DecodedCall Decode(const v1::AttendRequest& message) { return DecodeCall(message); }
DecodedCall Decode(const v1::CompareAlgorithmsRequest& message) { return DecodeCall(message); }

}  // namespace headlight
