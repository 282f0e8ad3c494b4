// The safetensors format: a little-endian 64-bit length, a header of so many bytes in JSON, then the tensors' bytes one
// after the other. https://github.com/huggingface/safetensors#format
#ifndef HEADLIGHT_SERVER_LAYERS_SAFETENSORS_H_
#define HEADLIGHT_SERVER_LAYERS_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/tensor.h"

namespace headlight {

// What a file may have at most.
inline constexpr std::int64_t kMostHeaderBytes = std::int64_t{8} << 20;
inline constexpr std::int64_t kMostTensors = 65'536;
inline constexpr std::int64_t kMostRank = 8;

struct StoredTensor {
  std::string dtype;               // "F32", "I64", ...
  std::optional<TensorKind> kind;  // F32, F16 and BF16; of other kinds layers take nothing
  Shape shape;
  absl::string_view bytes;  // of the file; not aligned
};

struct Safetensors {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> metadata;
};

// `tensors["NAME"]FIELD`, as violations name what is in a file.
std::string TensorPath(absl::string_view name, absl::string_view field = "");

// Checks a whole file. Every tensor's bytes lie within `file`, which outlives the result; together they fill what comes
// after the header, without overlaps or holes, and each has as many as its kind and shape say.
// Errors: INVALID_ARGUMENT with violations of "file", "header" and `tensors["NAME"]...`.
absl::StatusOr<Safetensors> ParseSafetensors(absl::string_view file);

// Length and header of a file of these float32 tensors in this order, the same text for the same names and shapes. The
// data follow.
std::string SafetensorsHeader(const std::vector<std::pair<std::string, Shape>>& tensors);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_SAFETENSORS_H_
