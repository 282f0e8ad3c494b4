// The 16-bit kinds, one element at a time. Rows go through kernels/convert.h.
#ifndef HEADLIGHT_SERVER_BASE_HALF_H_
#define HEADLIGHT_SERVER_BASE_HALF_H_

#include <cstdint>

#include "server/base/tensor.h"

namespace headlight {

// Exact.
float FloatFromF16(std::uint16_t bits);
float FloatFromBF16(std::uint16_t bits);

// Round to nearest, ties to even; too large becomes infinity; NaN stays NaN.
std::uint16_t F16FromFloat(float value);
std::uint16_t BF16FromFloat(float value);

// Element `index` (flat) of a tensor of any kind; booleans as 0 and 1, or what their byte says.
float ElementAsFloat(const TensorView& tensor, std::int64_t index);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BASE_HALF_H_
