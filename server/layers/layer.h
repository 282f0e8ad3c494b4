// Layers that the server holds and that calls name.
#ifndef HEADLIGHT_SERVER_LAYERS_LAYER_H_
#define HEADLIGHT_SERVER_LAYERS_LAYER_H_

#include <cstdint>
#include <map>
#include <string>

#include "server/base/tensor.h"
#include "server/problem/request.h"

namespace headlight {

enum class LayerOrigin : std::uint8_t { kBuiltIn, kFolder, kUpload };

// What is told of a layer beside its numbers.
struct LayerFacts {
  std::string name;                            // what calls give
  std::string id;                              // "sha256:..." of the file, with "/" and the number where it has several
  std::string scheme;                          // whose names its tensors had: "gpt2", "bert", ...
  TensorKind stored_kind = TensorKind::kF32;   // in the file
  std::map<std::string, std::string> tensors;  // name in the file by field of the contract's LayerWeights
  LayerOrigin origin = LayerOrigin::kBuiltIn;
};

// Float32, shapes as in the contract's LayerWeights; output and biases may be empty.
struct LayerMatrices {
  OwnedTensor query, key, value, output;
  OwnedTensor query_bias, key_bias, value_bias, output_bias;
};

// One layer's matrices, checked when it was made. Immutable; a call holds it by shared_ptr for as long as it computes.
class Layer {
 public:
  // Heads are 0 where they are not known: then callers give them.
  Layer(LayerFacts facts, std::int64_t query_heads, std::int64_t key_value_heads, LayerMatrices matrices);

  const LayerFacts& facts() const { return facts_; }
  const std::string& name() const { return facts_.name; }
  std::int64_t query_heads() const { return query_heads_; }
  std::int64_t key_value_heads() const { return key_value_heads_; }
  const LayerMatrices& matrices() const { return matrices_; }
  LayerForm form() const;
  LayerViews views() const;
  // Of all matrices.
  std::int64_t bytes() const;

 private:
  LayerFacts facts_;
  std::int64_t query_heads_, key_value_heads_;
  LayerMatrices matrices_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_LAYER_H_
