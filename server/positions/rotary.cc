#include "server/positions/rotary.h"

#include <cmath>

namespace headlight {

RotaryTable::RotaryTable(MemoryAccount& account, const PositionSpec& spec, std::int64_t first, std::int64_t count)
    : spec_(spec), first_(first), table_(account, MemoryUse::kPacked, count * spec.rotary_size) {}

void RotaryTable::Fill(std::int64_t begin, std::int64_t end) {
  const std::int64_t pairs = spec_.rotary_size / 2;
  for (std::int64_t c = 0; c < pairs; ++c) {
    const double exponent = -2.0 * static_cast<double>(c) / static_cast<double>(spec_.rotary_size);
    const double frequency = std::pow(spec_.base, exponent);
    for (std::int64_t row = begin; row < end; ++row) {
      const double angle = static_cast<double>(first_ + row) * frequency;
      float* out = table_.data() + row * spec_.rotary_size;
      out[c] = static_cast<float>(std::cos(angle));
      out[pairs + c] = static_cast<float>(std::sin(angle));
    }
  }
}

void RotaryTable::Turn(std::int64_t row, float* x) const {
  const std::int64_t pairs = spec_.rotary_size / 2;
  const float* cosines = table_.data() + row * spec_.rotary_size;
  const float* sines = cosines + pairs;
  const bool halves = spec_.layout == ChannelLayout::kHalves;
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
