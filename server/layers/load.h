// Files of layers at once, on the calling thread: what is built in, and a folder at the start.
#ifndef HEADLIGHT_SERVER_LAYERS_LOAD_H_
#define HEADLIGHT_SERVER_LAYERS_LOAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/limits.h"
#include "server/layers/layer_file.h"
#include "server/layers/schemes.h"
#include "server/layers/store.h"

namespace headlight {

// Takes so many bytes of a budget until what it returns is gone. Errors: the budget's own.
using HoldBytes = std::function<absl::StatusOr<std::shared_ptr<void>>(std::int64_t bytes)>;
// Holds nothing.
absl::StatusOr<std::shared_ptr<void>> NoBudget(std::int64_t bytes);

struct LoadedAs {
  std::string name;
  LayerOrigin origin = LayerOrigin::kFolder;
  FileHints hints;
};

// Errors: those of ParseSafetensors, RecognizeLayers, Conversion::Check and `hold`.
absl::StatusOr<LayerFile> LoadLayers(absl::string_view bytes, const LoadedAs& as, const Limits& limits,
                                     const HoldBytes& hold);

// Every NAME.safetensors in the folder, symbolic links included, with what NAME.json beside it says: "n_head" or
// "num_attention_heads", "num_key_value_heads", and "tensor_names" with the fields of the contract's TensorNames.
// Errors, one line with the path of the first file that is no good: INVALID_ARGUMENT, UNAVAILABLE, ALREADY_EXISTS, and
// those of `hold`.
absl::Status LoadFolder(const std::string& folder, const Limits& limits, const HoldBytes& hold, LayerStore& store);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_LOAD_H_
