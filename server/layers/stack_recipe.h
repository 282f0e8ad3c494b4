// The stack of a file of our own scheme; private to this room.
#ifndef HEADLIGHT_SERVER_LAYERS_STACK_RECIPE_H_
#define HEADLIGHT_SERVER_LAYERS_STACK_RECIPE_H_

#include <optional>
#include <vector>

#include "server/base/errors.h"
#include "server/base/limits.h"
#include "server/layers/recipe.h"
#include "server/layers/safetensors.h"

namespace headlight {

// Nothing where the file has neither a token embedding nor an unembedding.
std::optional<StackRecipe> FindStack(const Safetensors& file, const std::vector<LayerRecipe>& layers,
                                     const Limits& limits, Violations& violations);

// Every source of a file, those of layers first; none is empty.
std::vector<const TensorSource*> SourcesOf(const FileRecipe& recipe);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_STACK_RECIPE_H_
