// Safetensors files, written by the tests themselves.
#ifndef HEADLIGHT_TESTS_LAYERS_FILES_H_
#define HEADLIGHT_TESTS_LAYERS_FILES_H_

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/half.h"
#include "server/base/tensor.h"

namespace headlight::testing {

// Length, header and data.
inline std::string FileOf(const std::string& header, const std::string& data) {
  std::string file;
  for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>(header.size() >> (8 * i)));
  return file + header + data;
}

struct Written {
  std::string dtype;
  Shape shape;
  std::string bytes;
};

// Tensors in the order of their names; what `metadata` is not empty.
inline std::string FileOf(const std::map<std::string, Written>& tensors,
                          const std::map<std::string, std::string>& metadata = {}) {
  std::vector<std::string> entries;
  std::string data;
  if (!metadata.empty()) {
    entries.push_back(absl::StrCat("\"__metadata__\":{",
                                   absl::StrJoin(metadata, ",",
                                                 [](std::string* out, const auto& entry) {
                                                   absl::StrAppend(out, "\"", entry.first, "\":\"", entry.second, "\"");
                                                 }),
                                   "}"));
  }
  for (const auto& [name, tensor] : tensors) {
    entries.push_back(absl::StrCat("\"", name, "\":{\"dtype\":\"", tensor.dtype, "\",\"shape\":[",
                                   absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", data.size(), ",",
                                   data.size() + tensor.bytes.size(), "]}"));
    data += tensor.bytes;
  }
  return FileOf(absl::StrCat("{", absl::StrJoin(entries, ","), "}"), data);
}

// A matrix of multiples of 1/64 below 1, which follow from its seed: exact in all kinds.
class Numbers {
 public:
  Numbers(Shape shape, int seed) : shape_(std::move(shape)), seed_(seed) {}

  float At(std::int64_t r, std::int64_t c) const {
    return static_cast<float>((seed_ * 37 + r * 11 + c * 5) % 127 - 63) / 64;
  }
  // [rows, columns], or a vector.
  std::vector<float> Floats() const {
    const std::int64_t rows = shape_.size() == 2 ? shape_[0] : 1;
    std::vector<float> floats;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < shape_.back(); ++c) floats.push_back(At(r, c));
    }
    return floats;
  }
  Written Store(const std::string& dtype = "F32", bool transposed = false) const {
    Shape shape = shape_;
    std::vector<float> floats = Floats();
    if (transposed) {
      std::swap(shape[0], shape[1]);
      std::size_t i = 0;
      for (std::int64_t c = 0; c < shape_[1]; ++c) {
        for (std::int64_t r = 0; r < shape_[0]; ++r) floats[i++] = At(r, c);
      }
    }
    return {dtype, shape, Encode(floats, dtype)};
  }
  static std::string Encode(const std::vector<float>& floats, const std::string& dtype) {
    std::string bytes;
    for (const float x : floats) {
      if (dtype == "F32") {
        bytes.append(reinterpret_cast<const char*>(&x), sizeof(x));
      } else {
        const std::uint16_t bits = dtype == "F16" ? F16FromFloat(x) : BF16FromFloat(x);
        bytes.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
      }
    }
    return bytes;
  }

 private:
  Shape shape_;
  int seed_;
};

inline std::vector<float> FloatsOf(const OwnedTensor& tensor) {
  const std::size_t count = tensor.bytes.size() / sizeof(float);
  return {tensor.floats(), tensor.floats() + count};
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_LAYERS_FILES_H_
