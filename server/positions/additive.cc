#include "server/positions/additive.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "server/base/half.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

void AddSinusoids(const PositionSpec& spec, std::int64_t first, Matrix<float> x) {
  const bool halves = spec.layout == ChannelLayout::kHalves;
  for (std::int64_t c = 0; c < x.cols / 2; ++c) {
    const double exponent = -2.0 * static_cast<double>(c) / static_cast<double>(x.cols);
    const double frequency = std::pow(spec.base, exponent);
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const double angle = static_cast<double>(first + r) * frequency;
      x.Row(r)[halves ? c : 2 * c] += static_cast<float>(std::sin(angle));
      x.Row(r)[halves ? c + x.cols / 2 : 2 * c + 1] += static_cast<float>(std::cos(angle));
    }
  }
}

}  // namespace

void AddPositions(const PositionSpec& spec, const TensorView& table, std::int64_t first, Matrix<float> x) {
  if (spec.kind == PositionKind::kSinusoidal) AddSinusoids(spec, first, x);
  if (spec.kind != PositionKind::kLearned) return;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t c = 0; c < x.cols; ++c) x.Row(r)[c] += ElementAsFloat(table, (first + r) * x.cols + c);
  }
}

void AddAlibi(float slope, std::int64_t query_position, std::int64_t first_key, std::int64_t n, std::int64_t base,
              float* scores) {
  std::int64_t first = first_key - query_position;
  std::int64_t less = base;
  // All keys on one side: what is common is taken away while it is exact, but for what keeps them there.
  if (first >= 0) {
    less = std::max<std::int64_t>(base - first, 0);
    first += less - base;
  } else if (first + n <= 1) {
    less = std::max<std::int64_t>(first + base + n - 1, 0);
    first += base - less;
  }
  SubtractDistance(scores, n, slope, static_cast<float>(first), static_cast<float>(less));
}

void AddAlibiAt(float slope, std::int64_t query_position, const std::int64_t* key_positions, std::int64_t n,
                std::int64_t base, float* scores) {
  for (std::int64_t j = 0; j < n; ++j) {
    scores[j] -= slope * static_cast<float>(std::abs(query_position - key_positions[j]) - base);
  }
}

}  // namespace headlight
