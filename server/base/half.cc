#include "server/base/half.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace headlight {
namespace {

template <typename T>
T Load(const std::byte* data, std::int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

}  // namespace

float FloatFromBF16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

std::uint16_t BF16FromFloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float FloatFromF16(std::uint16_t bits) {
  const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  if (exponent == 0x1f && mantissa != 0) {
    // As the processors do it: sign and payload stay, and the NaN is quiet.
    const std::uint32_t upper = (std::uint32_t{bits} & 0x8000) << 16 | 0x7fc00000;
    return std::bit_cast<float>(upper | static_cast<std::uint32_t>(mantissa << 13));
  }
  if (exponent == 0x1f) return sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

std::uint16_t F16FromFloat(float value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const auto payload = static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(value) >> 13) & 0x3ff);
  if (std::isnan(value)) return sign | 0x7e00 | payload;
  const float magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  if (magnitude >= 65520.0F) return sign | 0x7c00;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  // The weight of the last bit; below 2^-14 numbers are subnormal and share 2^-24.
  const int last = std::max(exponent - 11, -24);
  const auto steps = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(magnitude, -last)));
  // 1024..2047 steps are a normal number, 2048 carries into the exponent by itself.
  const std::uint32_t bits = last == -24 ? steps : (static_cast<std::uint32_t>(last + 24) << 10) + steps;
  return static_cast<std::uint16_t>(sign | bits);
}

float ElementAsFloat(const TensorView& tensor, std::int64_t index) {
  switch (tensor.kind) {
    case TensorKind::kF32: return Load<float>(tensor.data, index);
    case TensorKind::kF16: return FloatFromF16(Load<std::uint16_t>(tensor.data, index));
    case TensorKind::kBF16: return FloatFromBF16(Load<std::uint16_t>(tensor.data, index));
    case TensorKind::kBool: return static_cast<float>(Load<std::uint8_t>(tensor.data, index));
  }
  return 0;
}

}  // namespace headlight
