// The contract's Tensor from and to plain floats.
#ifndef HEADLIGHT_CLIENT_CPP_TENSORS_H_
#define HEADLIGHT_CLIENT_CPP_TENSORS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "headlight/v1/tensor.pb.h"

namespace headlight::client {

// Product of the axes, 1 for no axis; nullopt where an axis is negative or the product exceeds 2^62.
std::optional<std::int64_t> ElementCount(absl::Span<const std::int64_t> shape);

// A tensor of `values` in row-major order. F16 and BF16 round to nearest, ties to even, and what is too large becomes
// infinity; BOOL is 1 for everything but 0.
// INVALID_ARGUMENT: the shape does not count the values, or the kind is UNSPECIFIED or unknown.
absl::StatusOr<v1::Tensor> MakeTensor(absl::Span<const float> values, absl::Span<const std::int64_t> shape,
                                      v1::TensorKind kind);

// The elements in row-major order, widened exactly; booleans as 0 and 1.
// INVALID_ARGUMENT: no data, or not as much as the shape says.
absl::StatusOr<std::vector<float>> FloatsOf(const v1::Tensor& tensor);

// The kind of the data; F32 for f32_values too, UNSPECIFIED where there is none.
v1::TensorKind KindOf(const v1::Tensor& tensor);

// One element of the 16-bit kinds, as MakeTensor and FloatsOf convert it.
std::uint16_t F16FromFloat(float value);
std::uint16_t Bf16FromFloat(float value);
float FloatFromF16(std::uint16_t bits);
float FloatFromBf16(std::uint16_t bits);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CPP_TENSORS_H_
