// Stacks: attention-only layers between a token embedding and an unembedding.
#ifndef HEADLIGHT_SERVER_LAYERS_STACK_H_
#define HEADLIGHT_SERVER_LAYERS_STACK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/base/tensor.h"
#include "server/layers/layer.h"

namespace headlight {

// Layer normalisation, (x - mean) / sqrt(variance + epsilon) x weight + bias per row. Both empty: there is none.
struct NormWeights {
  OwnedTensor weight, bias;  // [E] float32; bias may be empty
};

// x = token_embedding[id] + position_embedding[t]; for each layer x += layer(norm(x)); logits = final_norm(x)
// unembedding
// + unembedding_bias. Every layer reads and writes width E, and says its heads. Immutable, checked when it was made.
struct Stack {
  std::string name, id, description;
  LayerOrigin origin = LayerOrigin::kBuiltIn;
  OwnedTensor token_embedding;     // [V, E] float32
  OwnedTensor position_embedding;  // [P, E], or empty
  std::vector<std::shared_ptr<const Layer>> layers;
  std::vector<NormWeights> norms;  // one per layer
  NormWeights final_norm;
  OwnedTensor unembedding;       // [E, V]
  OwnedTensor unembedding_bias;  // [V], or empty
  double norm_epsilon = 1e-5;
  bool causal = true;                   // aligned top left
  std::vector<std::string> vocabulary;  // V words by id, all different, or empty

  std::int64_t width() const { return token_embedding.shape[1]; }
  std::int64_t vocabulary_size() const { return token_embedding.shape[0]; }
  // The longest sequence; 0: any.
  std::int64_t positions() const { return position_embedding.empty() ? 0 : position_embedding.shape[0]; }
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_STACK_H_
