// The checks behind RecognizeLayers, private to this room.
#ifndef HEADLIGHT_SERVER_LAYERS_CHECK_LAYER_H_
#define HEADLIGHT_SERVER_LAYERS_CHECK_LAYER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "server/base/errors.h"
#include "server/base/limits.h"
#include "server/layers/recipe.h"
#include "server/layers/safetensors.h"
#include "server/layers/schemes.h"

namespace headlight {

struct HeadCounts {
  std::int64_t query = 0, key_value = 0;  // 0: not known
};

// From the hints, the metadata, or the fallback, in this order.
HeadCounts HeadsOf(const Safetensors& file, const FileHints& hints, const Limits& limits, Violations& violations);

// What a tensor must be.
struct Wanted {
  std::size_t rank;
  bool required;
  bool transposed;  // stored [out, in]
};

// The whole tensor as a source; empty where there is none, or where it is reported.
TensorSource SourceOfTensor(const Safetensors& file, const std::string& name, const Wanted& wanted,
                            Violations& violations);

// Reports what cannot fit: widths against each other, heads and limits. Fills in key/value heads that were not said.
void CheckLayer(LayerRecipe& layer, const Limits& limits, Violations& violations);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_CHECK_LAYER_H_
