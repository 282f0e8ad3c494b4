// Rows of float32 scores: the elementwise half of softmax. Vectorised for every CPU target; results depend on the
// target alone. No allocation, no locks; thread-safe. Pointers need no alignment; n >= 0.
#ifndef HEADLIGHT_SERVER_KERNELS_ROWS_H_
#define HEADLIGHT_SERVER_KERNELS_ROWS_H_

#include <cstdint>

namespace headlight {

// The largest of n numbers, -inf for n = 0.
float RowMax(const float* row, std::int64_t n);

// row[i] = exp(row[i] - shift), and their sum. exp(-inf) is 0. REQUIRES: shift is finite.
float ExpAndSum(float* row, std::int64_t n, float shift);

// row[i] *= factor.
void ScaleRow(float* row, std::int64_t n, float factor);

// out[i] = in[i] * factor. `in` and `out` may be the same row.
void ScaleInto(const float* in, float* out, std::int64_t n, float factor);

// row[i] += other[i].
void AddRow(float* row, const float* other, std::int64_t n);

// row[i] -= slope * |first + i|: the bias of ALiBi (arXiv 2108.12409) for keys at distances first, first + 1, ...
void SubtractDistance(float* row, std::int64_t n, float slope, float first);

// The index of the first NaN or infinity, n where there is none.
std::int64_t FirstNonFinite(const float* row, std::int64_t n);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_ROWS_H_
