// What a file's tensors make: which elements of which tensor become which matrix of which layer or stack. Nothing is
// read or copied yet; everything about names and shapes is checked.
#ifndef HEADLIGHT_SERVER_LAYERS_RECIPE_H_
#define HEADLIGHT_SERVER_LAYERS_RECIPE_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/base/tensor.h"
#include "server/layers/layer.h"

namespace headlight {

// A matrix or a vector out of a stored tensor: its element (r, c) is at `offset + r row_stride + c column_stride`, in
// elements. A vector is one row.
struct TensorSource {
  std::string tensor;  // its name; empty: there is none
  TensorKind kind = TensorKind::kF32;
  absl::string_view bytes;  // of the whole tensor; not aligned
  Shape stored;             // its shape in the file
  Shape shape;              // of what is made of it
  std::int64_t offset = 0, row_stride = 0, column_stride = 1;

  bool empty() const { return tensor.empty(); }
  std::int64_t rows() const { return shape.size() == 2 ? shape[0] : 1; }
  std::int64_t columns() const { return shape.back(); }
};

// The matrices of a layer, in the order and with the names of the contract's LayerWeights.
inline constexpr int kLayerFields = 8;
enum class LayerField : std::uint8_t { kQuery, kKey, kValue, kOutput, kQueryBias, kKeyBias, kValueBias, kOutputBias };
absl::string_view NameOf(LayerField field);
// Likewise the tensor of `matrices`.
OwnedTensor& FieldOf(LayerMatrices& matrices, LayerField field);
const OwnedTensor& FieldOf(const LayerMatrices& matrices, LayerField field);

struct LayerRecipe {
  std::optional<std::int64_t> number;  // in the file; none: its names have no number
  std::array<TensorSource, kLayerFields> sources;
  std::int64_t query_heads = 0, key_value_heads = 0;  // 0: not known

  const TensorSource& operator[](LayerField field) const { return sources[static_cast<std::size_t>(field)]; }
  TensorSource& operator[](LayerField field) { return sources[static_cast<std::size_t>(field)]; }
};

struct NormRecipe {
  TensorSource weight, bias;
};

// As in Stack.
struct StackRecipe {
  TensorSource token_embedding, position_embedding, unembedding, unembedding_bias;
  std::vector<NormRecipe> norms;  // one per layer
  NormRecipe final_norm;
  double norm_epsilon = 1e-5;
  bool causal = true;
  std::vector<std::string> vocabulary;
  std::string description;
};

struct FileRecipe {
  std::string scheme;
  std::vector<LayerRecipe> layers;  // at least one, by number
  std::optional<StackRecipe> stack;
  std::int64_t bytes = 0;  // of float32, all that is made
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_RECIPE_H_
