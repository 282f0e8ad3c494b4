#include "server/positions/additive.h"

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

void AddAlibi(const PositionSpec& spec, std::int64_t head, Range rows, Range keys, Matrix<float> scores) {
  const float slope = spec.slopes[static_cast<std::size_t>(head)];
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    const std::int64_t first = (spec.key_offset + keys.begin) - (spec.query_offset + row);
    SubtractDistance(scores.Row(row - rows.begin), keys.size(), slope, static_cast<float>(first));
  }
}

void AddAlibiRow(float slope, std::int64_t query_position, const std::int64_t* key_positions, std::int64_t n,
                 float* scores) {
  for (std::int64_t j = 0; j < n; ++j) {
    scores[j] -= slope * static_cast<float>(std::abs(query_position - key_positions[j]));
  }
}

}  // namespace headlight
