#include "server/positions/rotary.h"

#include <algorithm>
#include <cmath>

namespace headlight {
namespace {

constexpr double kTwoPi = 6.283185307179586;

double ScaleLlama3(double frequency, const RotaryScalingOptions& scaling) {
  const double wavelength = kTwoPi / frequency;
  const auto context = static_cast<double>(scaling.original_context);
  if (wavelength < context / scaling.high_frequency_factor) return frequency;
  if (wavelength > context / scaling.low_frequency_factor) return frequency / scaling.factor;
  const double smooth = (context / wavelength - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

// The channel pair, as a real number, that makes `turns` turns within the original context.
double PairOfTurns(double turns, const PositionSpec& spec) {
  const auto size = static_cast<double>(spec.rotary_size);
  const auto context = static_cast<double>(spec.scaling.original_context);
  return size * std::log(context / (turns * kTwoPi)) / (2 * std::log(spec.base));
}

void ScaleYarn(const PositionSpec& spec, RotaryFrequencies& out) {
  const RotaryScalingOptions& scaling = spec.scaling;
  const double last = static_cast<double>(spec.rotary_size) - 1;
  const double low = std::max(std::floor(PairOfTurns(scaling.beta_fast, spec)), 0.0);
  double high = std::min(std::ceil(PairOfTurns(scaling.beta_slow, spec)), last);
  if (high == low) high += 0.001;  // as the published code: no division by zero
  for (std::size_t c = 0; c < out.frequency.size(); ++c) {
    const double ramp = std::clamp((static_cast<double>(c) - low) / (high - low), 0.0, 1.0);
    out.frequency[c] = out.frequency[c] / scaling.factor * ramp + out.frequency[c] * (1 - ramp);
  }
  const double usual = scaling.factor > 1 ? 0.1 * std::log(scaling.factor) + 1 : 1;
  out.amplitude = scaling.attention_factor.value_or(usual);
}

}  // namespace

RotaryFrequencies MakeRotaryFrequencies(const PositionSpec& spec) {
  const auto size = static_cast<double>(spec.rotary_size);
  double base = spec.base;
  // With one pair there is nothing but frequency 1.
  if (spec.scaling.kind == RotaryScaling::kNtkAware && size > 2)
    base *= std::pow(spec.scaling.factor, size / (size - 2));
  RotaryFrequencies out;
  for (std::int64_t c = 0; c < spec.rotary_size / 2; ++c) {
    double frequency = std::pow(base, -2.0 * static_cast<double>(c) / size);
    if (spec.scaling.kind == RotaryScaling::kLinear) frequency /= spec.scaling.factor;
    if (spec.scaling.kind == RotaryScaling::kLlama3) frequency = ScaleLlama3(frequency, spec.scaling);
    out.frequency.push_back(frequency);
  }
  if (spec.scaling.kind == RotaryScaling::kYarn) ScaleYarn(spec, out);
  return out;
}

RotaryTable::RotaryTable(MemoryAccount& account, const PositionSpec& spec, std::int64_t first, std::int64_t count)
    : frequencies_(MakeRotaryFrequencies(spec)),
      layout_(spec.layout),
      first_(first),
      rows_(count),
      table_(account, MemoryUse::kPacked, count * spec.rotary_size) {}

RotaryTable::RotaryTable(MemoryAccount& account, const PositionSpec& spec, const std::vector<std::int64_t>& positions)
    : RotaryTable(account, spec, 0, static_cast<std::int64_t>(positions.size())) {
  positions_ = &positions;
}

void RotaryTable::Fill(std::int64_t begin, std::int64_t end) {
  const auto pairs = static_cast<std::int64_t>(frequencies_.frequency.size());
  for (std::int64_t c = 0; c < pairs; ++c) {
    const double frequency = frequencies_.frequency[static_cast<std::size_t>(c)];
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t position = positions_ == nullptr ? first_ + row : (*positions_)[static_cast<std::size_t>(row)];
      const double angle = static_cast<double>(position) * frequency;
      float* out = table_.data() + row * 2 * pairs;
      out[c] = static_cast<float>(frequencies_.amplitude * std::cos(angle));
      out[pairs + c] = static_cast<float>(frequencies_.amplitude * std::sin(angle));
    }
  }
}

void RotaryTable::Turn(std::int64_t row, float* x) const {
  const auto pairs = static_cast<std::int64_t>(frequencies_.frequency.size());
  const float* cosines = table_.data() + row * 2 * pairs;
  const float* sines = cosines + pairs;
  const bool halves = layout_ == ChannelLayout::kHalves;
  const std::int64_t step = halves ? 1 : 2;
  float* second = x + (halves ? pairs : 1);
  for (std::int64_t c = 0; c < pairs; ++c) {
    const float a = x[c * step];
    const float b = second[c * step];
    x[c * step] = a * cosines[c] - b * sines[c];
    second[c * step] = b * cosines[c] + a * sines[c];
  }
}

}  // namespace headlight
