// Layers that the server holds and that calls name.
#ifndef HEADLIGHT_SERVER_LAYERS_LAYER_H_
#define HEADLIGHT_SERVER_LAYERS_LAYER_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/base/tensor.h"
#include "server/problem/request.h"

namespace headlight {

// One layer's float32 matrices, checked when it was made. Immutable; lives as long as the process.
class Layer {
 public:
  // Shapes as in the contract's LayerWeights; biases none.
  Layer(std::string name, std::int64_t query_heads, OwnedTensor query, OwnedTensor key, OwnedTensor value,
        OwnedTensor output);

  const std::string& name() const { return name_; }
  LayerForm form() const;
  LayerViews views() const;

 private:
  std::string name_;
  std::int64_t query_heads_;
  OwnedTensor query_, key_, value_, output_;
};

// The layer of this name, null where there is none. Thread-safe.
const Layer* FindLayer(absl::string_view name);

// Every name, in order.
std::vector<std::string> LayerNames();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_LAYER_H_
