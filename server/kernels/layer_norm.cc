#include "server/kernels/layer_norm.h"

#include <cmath>

namespace headlight {

NormScale NormScaleOf(const float* row, std::int64_t n, double epsilon) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += row[i];
  const double mean = sum / static_cast<double>(n);
  double squares = 0;
  for (std::int64_t i = 0; i < n; ++i) squares += (row[i] - mean) * (row[i] - mean);
  return {mean, 1 / std::sqrt(squares / static_cast<double>(n) + epsilon)};
}

void NormaliseRow(const float* row, std::int64_t n, const NormView& norm, double epsilon, float* out) {
  const NormScale scale = NormScaleOf(row, n, epsilon);
  for (std::int64_t i = 0; i < n; ++i) {
    const double bias = norm.bias == nullptr ? 0 : norm.bias[i];
    out[i] = static_cast<float>((row[i] - scale.mean) * scale.factor * norm.weight[i] + bias);
  }
}

}  // namespace headlight
