// What one file brought.
#ifndef HEADLIGHT_SERVER_LAYERS_LAYER_FILE_H_
#define HEADLIGHT_SERVER_LAYERS_LAYER_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/layers/layer.h"
#include "server/layers/stack.h"

namespace headlight {

struct LayerFile {
  std::string name, id;
  LayerOrigin origin = LayerOrigin::kBuiltIn;
  std::vector<std::shared_ptr<const Layer>> layers;  // by number
  std::shared_ptr<const Stack> stack;                // null: it has none
  std::int64_t bytes = 0;                            // of all matrices
};

// Bytes of a stack's own matrices, those of its layers not counted.
std::int64_t BytesOf(const Stack& stack);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_LAYER_FILE_H_
