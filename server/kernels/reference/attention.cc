#include "server/kernels/reference/attention.h"

#include <cmath>
#include <limits>

#include "server/base/half.h"

namespace headlight::reference {
namespace {

constexpr double kForbidden = -std::numeric_limits<double>::infinity();

// The two channels of pair c.
struct Pair {
  std::int64_t first;
  std::int64_t second;
};

Pair PairOf(std::int64_t c, std::int64_t size, bool halves) {
  return halves ? Pair{c, c + size / 2} : Pair{2 * c, 2 * c + 1};
}

double Angle(std::int64_t c, std::int64_t size, double base, std::int64_t position) {
  const double exponent = -2.0 * static_cast<double>(c) / static_cast<double>(size);
  return static_cast<double>(position) * std::pow(base, exponent);
}

void TurnPair(double* x, Pair pair, double angle, double amplitude) {
  const double cosine = amplitude * std::cos(angle);
  const double sine = amplitude * std::sin(angle);
  const double a = x[pair.first];
  const double b = x[pair.second];
  x[pair.first] = a * cosine - b * sine;
  x[pair.second] = b * cosine + a * sine;
}

}  // namespace

void Score(const Row& row, std::int64_t begin, std::int64_t end) {
  for (std::int64_t j = begin; j < end; ++j) {
    row.weights[j] = kForbidden;
    if (row.bias[j] == kForbidden) continue;
    double dot = 0;
    for (std::int64_t d = 0; d < row.keys.cols; ++d) dot += row.query[d] * row.keys.Row(j)[d];
    double score = row.scale * dot;
    if (row.softcap > 0) score = row.softcap * std::tanh(score / row.softcap);
    row.weights[j] = score + row.bias[j];
  }
}

double Softmax(const Row& row) {
  // Starting at -inf, not at 0: all scores may be very negative.
  double largest = kForbidden;
  bool is_nan = false;
  for (std::int64_t j = 0; j < row.keys.rows; ++j) {
    if (row.bias[j] == kForbidden) continue;
    largest = std::fmax(largest, row.weights[j]);
    is_nan = is_nan || std::isnan(row.weights[j]);
  }
  if (largest == kForbidden && !is_nan) {
    for (std::int64_t j = 0; j < row.keys.rows; ++j) row.weights[j] = 0;
    return kForbidden;
  }
  double sum = 0;
  for (std::int64_t j = 0; j < row.keys.rows; ++j) {
    row.weights[j] = row.bias[j] == kForbidden ? 0 : std::exp(row.weights[j] - largest);
    sum += row.weights[j];
  }
  // A sink far above every score makes this infinite and the weights 0, which they are.
  const double denominator = row.sink != nullptr ? sum + std::exp(*row.sink - largest) : sum;
  // Forbidden weights stay 0 where the denominator is not a number.
  for (std::int64_t j = 0; j < row.keys.rows; ++j) {
    if (row.bias[j] != kForbidden) row.weights[j] /= denominator;
  }
  return largest + std::log(sum);
}

void Blend(const Row& row, std::int64_t begin, std::int64_t end) {
  for (std::int64_t d = 0; begin == 0 && d < row.values.cols; ++d) row.output[d] = 0;
  for (std::int64_t j = begin; j < end; ++j) {
    if (row.bias[j] == kForbidden) continue;
    for (std::int64_t d = 0; d < row.values.cols; ++d) row.output[d] += row.weights[j] * row.values.Row(j)[d];
  }
}

double Attend(const Row& row) {
  Score(row, 0, row.keys.rows);
  const double log_sum_exp = Softmax(row);
  Blend(row, 0, row.keys.rows);
  return log_sum_exp;
}

void Project(const double* x, const TensorView& weights, const TensorView& bias, std::int64_t begin, std::int64_t end,
             double* out) {
  const std::int64_t columns = weights.shape[1];
  for (std::int64_t n = begin; n < end; ++n) out[n - begin] = bias.empty() ? 0 : ElementAsFloat(bias, n);
  for (std::int64_t e = 0; e < weights.shape[0]; ++e) {
    for (std::int64_t n = begin; n < end; ++n) out[n - begin] += x[e] * ElementAsFloat(weights, e * columns + n);
  }
}

void Turn(double* x, std::int64_t size, bool halves, double base, std::int64_t position) {
  for (std::int64_t c = 0; c < size / 2; ++c) TurnPair(x, PairOf(c, size, halves), Angle(c, size, base, position), 1);
}

void TurnBy(double* x, const std::vector<double>& frequency, double amplitude, bool halves, std::int64_t position) {
  const auto pairs = static_cast<std::int64_t>(frequency.size());
  for (std::int64_t c = 0; c < pairs; ++c) {
    const double angle = static_cast<double>(position) * frequency[static_cast<std::size_t>(c)];
    TurnPair(x, PairOf(c, 2 * pairs, halves), angle, amplitude);
  }
}

void AddSinusoid(double* x, std::int64_t width, bool halves, double base, std::int64_t position) {
  for (std::int64_t c = 0; c < width / 2; ++c) {
    const auto [first, second] = PairOf(c, width, halves);
    x[first] += std::sin(Angle(c, width, base, position));
    x[second] += std::cos(Angle(c, width, base, position));
  }
}

}  // namespace headlight::reference
