#include "client/cpp/tensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace headlight::client {
namespace {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian");

template <typename Element, typename Convert>
std::string Pack(absl::Span<const float> values, const Convert& convert) {
  std::string bytes(values.size() * sizeof(Element), '\0');
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Element element = convert(values[i]);
    std::memcpy(bytes.data() + i * sizeof(Element), &element, sizeof(Element));
  }
  return bytes;
}

// Empty where the bytes are no whole number of elements; the caller compares the count with the shape.
template <typename Element, typename Convert>
std::vector<float> Unpack(const std::string& bytes, const Convert& convert) {
  if (bytes.size() % sizeof(Element) != 0) return {};
  std::vector<float> values(bytes.size() / sizeof(Element));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof(Element), sizeof(Element));
    values[i] = convert(element);
  }
  return values;
}

std::vector<float> UnpackAny(const v1::Tensor& tensor) {
  switch (tensor.data_case()) {
    case v1::Tensor::kF32Values: return {tensor.f32_values().values().begin(), tensor.f32_values().values().end()};
    case v1::Tensor::kF32Le: return Unpack<float>(tensor.f32_le(), [](float x) { return x; });
    case v1::Tensor::kF16Le: return Unpack<std::uint16_t>(tensor.f16_le(), FloatFromF16);
    case v1::Tensor::kBf16Le: return Unpack<std::uint16_t>(tensor.bf16_le(), FloatFromBf16);
    case v1::Tensor::kBoolU8:
      return Unpack<std::uint8_t>(tensor.bool_u8(), [](std::uint8_t x) { return x != 0 ? 1.0F : 0.0F; });
    case v1::Tensor::DATA_NOT_SET: return {};
  }
  return {};
}

}  // namespace

std::optional<std::int64_t> ElementCount(absl::Span<const std::int64_t> shape) {
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  if (std::any_of(shape.begin(), shape.end(), [](std::int64_t axis) { return axis < 0; })) return std::nullopt;
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t count = 1;
  for (const std::int64_t axis : shape) {
    if (axis > kMost / count) return std::nullopt;
    count *= axis;
  }
  return count;
}

absl::StatusOr<v1::Tensor> MakeTensor(absl::Span<const float> values, absl::Span<const std::int64_t> shape,
                                      v1::TensorKind kind) {
  if (ElementCount(shape) != static_cast<std::int64_t>(values.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat(values.size(), " values for a tensor of shape [", absl::StrJoin(shape, ", "), "]"));
  }
  v1::Tensor tensor;
  tensor.mutable_shape()->Assign(shape.begin(), shape.end());
  switch (kind) {
    case v1::TENSOR_KIND_F32: tensor.set_f32_le(Pack<float>(values, [](float x) { return x; })); return tensor;
    case v1::TENSOR_KIND_F16: tensor.set_f16_le(Pack<std::uint16_t>(values, F16FromFloat)); return tensor;
    case v1::TENSOR_KIND_BF16: tensor.set_bf16_le(Pack<std::uint16_t>(values, Bf16FromFloat)); return tensor;
    case v1::TENSOR_KIND_BOOL:
      tensor.set_bool_u8(Pack<std::uint8_t>(values, [](float x) { return static_cast<std::uint8_t>(x != 0); }));
      return tensor;
    default: return absl::InvalidArgumentError("a tensor needs a kind: F32, F16, BF16 or BOOL");
  }
}

absl::StatusOr<std::vector<float>> FloatsOf(const v1::Tensor& tensor) {
  std::vector<float> values = UnpackAny(tensor);
  if (tensor.data_case() == v1::Tensor::DATA_NOT_SET ||
      ElementCount(tensor.shape()) != static_cast<std::int64_t>(values.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("the data of a tensor do not fill its shape [", absl::StrJoin(tensor.shape(), ", "), "]"));
  }
  return values;
}

v1::TensorKind KindOf(const v1::Tensor& tensor) {
  switch (tensor.data_case()) {
    case v1::Tensor::kF32Values:
    case v1::Tensor::kF32Le: return v1::TENSOR_KIND_F32;
    case v1::Tensor::kF16Le: return v1::TENSOR_KIND_F16;
    case v1::Tensor::kBf16Le: return v1::TENSOR_KIND_BF16;
    case v1::Tensor::kBoolU8: return v1::TENSOR_KIND_BOOL;
    case v1::Tensor::DATA_NOT_SET: return v1::TENSOR_KIND_UNSPECIFIED;
  }
  return v1::TENSOR_KIND_UNSPECIFIED;
}

std::uint16_t F16FromFloat(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t magnitude = bits & 0x7fffffff;
  std::uint32_t half = 0;
  if (magnitude > 0x7f800000) {
    half = 0x7e00;  // NaN
  } else if (magnitude >= 0x477ff000) {
    half = 0x7c00;  // 65520, halfway from the largest half to what would follow, and above
  } else if (magnitude < 0x38800000) {
    // Below 2^-14 all halves are multiples of 2^-24; the product is exact, and rint breaks ties to even.
    half = static_cast<std::uint32_t>(std::rint(std::bit_cast<float>(magnitude) * 0x1p24F));
  } else {
    // Moves the exponent's bias from 127 to 15 and drops 13 bits; a carry out of the fraction raises the exponent.
    const std::uint32_t rebased = magnitude - (std::uint32_t{127 - 15} << 23);
    half = (rebased + 0xfff + ((rebased >> 13) & 1)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | half);
}

std::uint16_t Bf16FromFloat(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float FloatFromF16(std::uint16_t bits) {
  const std::uint32_t sign = (bits & std::uint32_t{0x8000}) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1f;
  const std::uint32_t fraction = bits & 0x3ff;
  if (exponent == 0) {
    const float subnormal = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(subnormal));
  }
  const std::uint32_t wide_exponent = exponent == 0x1f ? 0xff : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (fraction << 13));
}

float FloatFromBf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

}  // namespace headlight::client
