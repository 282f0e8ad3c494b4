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

// What turns the scores of a row into weights: exp(score - largest) x factor. Not by the log-sum-exp: beside a large
// score float32 has no room for a logarithm.
struct RowNorm {
  float largest = 0;  // -inf: the row sees no key, and its weights are 0
  float factor = 0;   // 1 / sum of exp(score - largest), the sink in it; NaN: the weights are not numbers
};
// A score of -inf becomes 0 in every case.
void WeightsFromScores(float* row, std::int64_t n, RowNorm norm);

// row[i] *= factor.
void ScaleRow(float* row, std::int64_t n, float factor);

// out[i] = in[i] * factor. `in` and `out` may be the same row.
void ScaleInto(const float* in, float* out, std::int64_t n, float factor);

// row[i] += other[i].
void AddRow(float* row, const float* other, std::int64_t n);

// row[i] += factor * other[i], with one rounding where the target fuses.
void AddScaledRow(float* row, const float* other, std::int64_t n, float factor);

// row[i] -= slope * (|first + i| - base): the bias of ALiBi (arXiv 2108.12409) for keys at distances first, first + 1,
// ..., beside that of a key at distance `base`.
void SubtractDistance(float* row, std::int64_t n, float slope, float first, float base = 0);

// row[i] = cap x tanh(row[i] / cap); NaN stays NaN. REQUIRES: cap > 0.
void SoftcapRow(float* row, std::int64_t n, float cap);

// Sums over a row that a softmax is made of: with e[i] = exp(row[i] - shift), sum of e[i], of e[i] (row[i] - shift) and
// of e[i] distances[i]. A score of -inf counts 0. REQUIRES: shift is finite and no score above it.
struct RowMoments {
  float weight = 0;
  float score = 0;
  float distance = 0;
};
RowMoments ExpMoments(const float* row, const float* distances, std::int64_t n, float shift);

// Sum of a[i] x b[i] in double.
double DotInDouble(const float* a, const float* b, std::int64_t n);

// The index of the first NaN or infinity, n where there is none.
std::int64_t FirstNonFinite(const float* row, std::int64_t n);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_ROWS_H_
