// What a tensor is: kind, shape and a view of its bytes. Row-major, little-endian, no padding.
#ifndef HEADLIGHT_SERVER_BASE_TENSOR_H_
#define HEADLIGHT_SERVER_BASE_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace headlight {

enum class TensorKind : std::uint8_t { kF32, kF16, kBF16, kBool };

// Bytes of one element.
constexpr std::int64_t WidthOf(TensorKind kind) {
  switch (kind) {
    case TensorKind::kF32: return 4;
    case TensorKind::kF16:
    case TensorKind::kBF16: return 2;
    case TensorKind::kBool: return 1;
  }
  return 0;
}

// "f32", "f16", "bf16", "bool".
absl::string_view NameOf(TensorKind kind);

// Sizes of the axes, outermost first.
using Shape = std::vector<std::int64_t>;

// Product of the axes; nullopt where an axis is negative or the product exceeds 2^62.
std::optional<std::int64_t> ElementCount(const Shape& shape);

// "[2, 3, 64]".
std::string ToString(const Shape& shape);

// The index per axis of a flat element, row-major. REQUIRES: 0 <= flat < ElementCount(shape).
Shape UnflattenIndex(std::int64_t flat, const Shape& shape);

// What a tensor claims to be, without its data: all that checks and plans see.
struct TensorForm {
  TensorKind kind = TensorKind::kF32;
  Shape shape;
  // Bytes that came with it; nullopt where no data comes (planning).
  std::optional<std::int64_t> payload_bytes;
};

// Borrowed, read-only bytes of a tensor. Alignment: at least the element's width.
struct TensorView {
  TensorKind kind = TensorKind::kF32;
  Shape shape;
  const std::byte* data = nullptr;

  bool empty() const { return data == nullptr; }
};

// Matrices of a layer; shapes as in the contract's LayerWeights. What is absent is empty.
struct LayerViews {
  TensorView query, key, value, output;
  TensorView query_bias, key_bias, value_bias, output_bias;
};

// A tensor that owns its bytes in the form in which an answer carries them.
struct OwnedTensor {
  TensorKind kind = TensorKind::kF32;
  Shape shape;
  std::string bytes;

  bool empty() const { return bytes.empty(); }
  float* floats() { return reinterpret_cast<float*>(bytes.data()); }
  const float* floats() const { return reinterpret_cast<const float*>(bytes.data()); }
  TensorView view() const { return {kind, shape, reinterpret_cast<const std::byte*>(bytes.data())}; }
};

// A zeroed tensor. REQUIRES: ElementCount(shape) has a value that was checked against the limits.
OwnedTensor MakeTensor(TensorKind kind, Shape shape);

// Rows of floats, `stride` elements from one row to the next. Borrowed.
template <typename T>
struct Matrix {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  T* Row(std::int64_t r) const { return data + r * stride; }
};

constexpr std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t RoundUp(std::int64_t a, std::int64_t b) { return CeilDiv(a, b) * b; }

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BASE_TENSOR_H_
