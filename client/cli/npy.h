// Arrays in NumPy's .npy format, versions 1.0 to 3.0. A reader of our own, because the packaged cnpy drops the dtype:
// it cannot tell float16 from int16, or booleans from bytes.
//
// Read: little-endian float16, float32, float64 and int64, and booleans, in C order. Written: float32.
#ifndef HEADLIGHT_CLIENT_CLI_NPY_H_
#define HEADLIGHT_CLIENT_CLI_NPY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace headlight::cli {

struct NpyArray {
  std::vector<std::int64_t> shape;
  std::vector<float> values;  // row-major; float64 and int64 rounded to float32, booleans as 0 and 1
  bool boolean = false;       // the file's dtype is bool
};

// The array in a file's bytes, which may come from anybody: memory is taken only for elements that are there.
// INVALID_ARGUMENT says what is wrong and, for an order or dtype that is not read, how to save it otherwise.
absl::StatusOr<NpyArray> ParseNpy(absl::string_view bytes);

// The array in a regular file. Errors begin with the path: those of ParseNpy, NOT_FOUND where it cannot be opened.
absl::StatusOr<NpyArray> ReadNpy(const std::string& path);

// The bytes of a version 1.0 file of float32. REQUIRES: the shape counts the values; rank at most 32.
std::string FormatNpy(absl::Span<const float> values, absl::Span<const std::int64_t> shape);

// Writes FormatNpy to a file, in place of an older one. UNKNOWN with the path where that fails.
absl::Status WriteNpy(const std::string& path, absl::Span<const float> values, absl::Span<const std::int64_t> shape);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_NPY_H_
