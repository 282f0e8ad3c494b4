#include "server/service/encode_layers.h"

#include "server/layers/recipe.h"
#include "server/service/encode.h"

namespace headlight {
namespace {

v1::LayerOrigin OriginOf(LayerOrigin origin) {
  switch (origin) {
    case LayerOrigin::kBuiltIn: return v1::LAYER_ORIGIN_BUILT_IN;
    case LayerOrigin::kFolder: return v1::LAYER_ORIGIN_FOLDER;
    case LayerOrigin::kUpload: return v1::LAYER_ORIGIN_UPLOAD;
  }
  return v1::LAYER_ORIGIN_UNSPECIFIED;
}

}  // namespace

void EncodeLayer(const Layer& layer, v1::LayerInfo* message) {
  const LayerFacts& facts = layer.facts();
  const LayerMatrices& m = layer.matrices();
  message->set_name(facts.name);
  message->set_id(facts.id);
  message->set_scheme(facts.scheme);
  message->set_width(m.query.shape[0]);
  message->set_context_width(m.key.shape[0]);
  if (!m.output.empty()) message->set_output_width(m.output.shape[1]);
  if (layer.query_heads() != 0) {
    message->set_query_heads(static_cast<std::uint32_t>(layer.query_heads()));
    message->set_key_value_heads(static_cast<std::uint32_t>(layer.key_value_heads()));
    message->set_head_size(static_cast<std::uint32_t>(m.query.shape[1] / layer.query_heads()));
    message->set_value_head_size(static_cast<std::uint32_t>(m.value.shape[1] / layer.key_value_heads()));
  }
  message->set_stored_kind(EncodeKind(facts.stored_kind));
  message->set_bytes(static_cast<std::uint64_t>(layer.bytes()));
  for (const auto& [field, tensor] : facts.tensors) (*message->mutable_tensors())[field] = tensor;
  message->set_origin(OriginOf(facts.origin));
}

void EncodeWeights(const Layer& layer, v1::LayerWeights* message) {
  const auto encode = [&layer](LayerField field, v1::Tensor* tensor) {
    EncodeTensor(OwnedTensor(FieldOf(layer.matrices(), field)), tensor);
  };
  const LayerMatrices& m = layer.matrices();
  encode(LayerField::kQuery, message->mutable_query());
  encode(LayerField::kKey, message->mutable_key());
  encode(LayerField::kValue, message->mutable_value());
  if (!m.output.empty()) encode(LayerField::kOutput, message->mutable_output());
  if (!m.query_bias.empty()) encode(LayerField::kQueryBias, message->mutable_query_bias());
  if (!m.key_bias.empty()) encode(LayerField::kKeyBias, message->mutable_key_bias());
  if (!m.value_bias.empty()) encode(LayerField::kValueBias, message->mutable_value_bias());
  if (!m.output_bias.empty()) encode(LayerField::kOutputBias, message->mutable_output_bias());
}

void EncodeStack(const Stack& stack, bool with_vocabulary, v1::StackInfo* message) {
  message->set_name(stack.name);
  message->set_id(stack.id);
  for (const auto& layer : stack.layers) message->add_layers(layer->name());
  message->set_words(stack.vocabulary_size());
  message->set_positions(stack.positions());
  message->set_width(stack.width());
  message->set_causal(stack.causal);
  for (const NormWeights& norm : stack.norms) {
    if (!norm.weight.empty()) message->set_layer_norm(true);
  }
  if (with_vocabulary) message->mutable_vocabulary()->Assign(stack.vocabulary.begin(), stack.vocabulary.end());
  message->set_origin(OriginOf(stack.origin));
  message->set_description(stack.description);
  message->set_bytes(static_cast<std::uint64_t>(BytesOf(stack)));
}

void EncodeFile(const LayerFile& file, v1::UploadLayerResponse* message) {
  for (const auto& layer : file.layers) EncodeLayer(*layer, message->add_layers());
  if (file.stack != nullptr) EncodeStack(*file.stack, /*with_vocabulary=*/true, message->mutable_stack());
  message->set_id(file.id);
}

}  // namespace headlight
