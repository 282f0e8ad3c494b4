#include "server/layers/layer.h"

#include <utility>

#include "server/layers/demo.h"

namespace headlight {
namespace {

TensorForm FormOf(const OwnedTensor& tensor) {
  return {tensor.kind, tensor.shape, static_cast<std::int64_t>(tensor.bytes.size())};
}

}  // namespace

Layer::Layer(std::string name, std::int64_t query_heads, OwnedTensor query, OwnedTensor key, OwnedTensor value,
             OwnedTensor output)
    : name_(std::move(name)),
      query_heads_(query_heads),
      query_(std::move(query)),
      key_(std::move(key)),
      value_(std::move(value)),
      output_(std::move(output)) {}

LayerForm Layer::form() const {
  LayerForm form;
  form.query = FormOf(query_);
  form.key = FormOf(key_);
  form.value = FormOf(value_);
  form.output = FormOf(output_);
  form.query_heads = query_heads_;
  form.key_value_heads = query_heads_;
  return form;
}

LayerViews Layer::views() const {
  LayerViews views;
  views.query = query_.view();
  views.key = key_.view();
  views.value = value_.view();
  views.output = output_.view();
  return views;
}

const Layer* FindLayer(absl::string_view name) {
  const Demo& demo = GetDemo();
  return name == demo.layer.name() ? &demo.layer : nullptr;
}

std::vector<std::string> LayerNames() { return {GetDemo().layer.name()}; }

}  // namespace headlight
