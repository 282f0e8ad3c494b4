#include "server/layers/layer.h"

#include <optional>
#include <utility>

namespace headlight {
namespace {

std::optional<TensorForm> FormOf(const OwnedTensor& tensor) {
  if (tensor.empty()) return std::nullopt;
  return TensorForm{tensor.kind, tensor.shape, static_cast<std::int64_t>(tensor.bytes.size())};
}

TensorView ViewOf(const OwnedTensor& tensor) { return tensor.empty() ? TensorView() : tensor.view(); }

}  // namespace

Layer::Layer(LayerFacts facts, std::int64_t query_heads, std::int64_t key_value_heads, LayerMatrices matrices)
    : facts_(std::move(facts)),
      query_heads_(query_heads),
      key_value_heads_(key_value_heads),
      matrices_(std::move(matrices)) {}

LayerForm Layer::form() const {
  const LayerMatrices& m = matrices_;
  LayerForm form;
  form.query = FormOf(m.query);
  form.key = FormOf(m.key);
  form.value = FormOf(m.value);
  form.output = FormOf(m.output);
  form.query_bias = FormOf(m.query_bias);
  form.key_bias = FormOf(m.key_bias);
  form.value_bias = FormOf(m.value_bias);
  form.output_bias = FormOf(m.output_bias);
  form.query_heads = query_heads_;
  form.key_value_heads = key_value_heads_;
  return form;
}

LayerViews Layer::views() const {
  const LayerMatrices& m = matrices_;
  LayerViews views;
  views.query = ViewOf(m.query);
  views.key = ViewOf(m.key);
  views.value = ViewOf(m.value);
  views.output = ViewOf(m.output);
  views.query_bias = ViewOf(m.query_bias);
  views.key_bias = ViewOf(m.key_bias);
  views.value_bias = ViewOf(m.value_bias);
  views.output_bias = ViewOf(m.output_bias);
  return views;
}

std::int64_t Layer::bytes() const {
  const LayerMatrices& m = matrices_;
  std::size_t sum = 0;
  for (const OwnedTensor* tensor :
       {&m.query, &m.key, &m.value, &m.output, &m.query_bias, &m.key_bias, &m.value_bias, &m.output_bias}) {
    sum += tensor->bytes.size();
  }
  return static_cast<std::int64_t>(sum);
}

}  // namespace headlight
