// Rows between kinds. Widening is exact; narrowing rounds to nearest, ties to even, and overflows to infinity.
// Vectorised; the same bits on every target. No allocation, no locks; thread-safe.
#ifndef HEADLIGHT_SERVER_KERNELS_CONVERT_H_
#define HEADLIGHT_SERVER_KERNELS_CONVERT_H_

#include <cstddef>
#include <cstdint>

#include "server/base/tensor.h"

namespace headlight {

// n elements of `kind` (F32, F16 or BF16) at `in` as floats. `in` is aligned to the element's width.
void WidenRow(TensorKind kind, const std::byte* in, float* out, std::int64_t n);

// n floats as elements of `kind`. `out` may be where `in` is: it never overtakes.
void NarrowRow(TensorKind kind, const float* in, std::byte* out, std::int64_t n);

// row[i] rounded to the nearest bfloat16, ties to even.
void RoundRowToBF16(float* row, std::int64_t n);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_CONVERT_H_
