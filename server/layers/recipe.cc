#include "server/layers/recipe.h"

namespace headlight {

absl::string_view NameOf(LayerField field) {
  constexpr std::array<absl::string_view, kLayerFields> kNames = {
      "query", "key", "value", "output", "query_bias", "key_bias", "value_bias", "output_bias"};
  return kNames[static_cast<std::size_t>(field)];
}

const OwnedTensor& FieldOf(const LayerMatrices& matrices, LayerField field) {
  constexpr std::array<OwnedTensor LayerMatrices::*, kLayerFields> kFields = {
      &LayerMatrices::query,      &LayerMatrices::key,      &LayerMatrices::value,      &LayerMatrices::output,
      &LayerMatrices::query_bias, &LayerMatrices::key_bias, &LayerMatrices::value_bias, &LayerMatrices::output_bias};
  return matrices.*kFields[static_cast<std::size_t>(field)];
}

OwnedTensor& FieldOf(LayerMatrices& matrices, LayerField field) {
  return const_cast<OwnedTensor&>(FieldOf(static_cast<const LayerMatrices&>(matrices), field));
}

}  // namespace headlight
