// Rotary positions: rows of Q and K are turned by their position (arXiv 2104.09864).
#ifndef HEADLIGHT_SERVER_POSITIONS_ROTARY_H_
#define HEADLIGHT_SERVER_POSITIONS_ROTARY_H_

#include <cstdint>
#include <vector>

#include "server/base/memory.h"
#include "server/problem/spec.h"

namespace headlight {

// How fast each channel pair turns: pair c by position x frequency[c], and cosines and sines times `amplitude`.
struct RotaryFrequencies {
  std::vector<double> frequency;  // rotary_size / 2
  double amplitude = 1;
};

// f(c) = base^(-2c/r), changed for longer contexts by the scaling:
// - linear: f(c) / factor (position interpolation, arXiv 2306.15595)
// - NTK-aware: the base becomes base x factor^(r/(r-2)) (bloc97, 2023; arXiv 2309.00071, section 3.1)
// - Llama 3: with wavelength w = 2 pi / f and context n: f where w < n / high, f / factor where w > n / low, and
// between
//   (1 - s) f / factor + s f with s = (n / w - low) / (high - low) (Llama 3.1's published code)
// - YaRN: with d(t) = r ln(n / (2 pi t)) / (2 ln base), the pair that makes t turns in n tokens, and the ramp from
//   floor(d(beta_fast)) to ceil(d(beta_slow)) (both within 0..r-1): f / factor x ramp + f x (1 - ramp); amplitude
//   0.1 ln(factor) + 1 for a factor above 1 unless given (arXiv 2309.00071, sections 3.2 to 3.4)
RotaryFrequencies MakeRotaryFrequencies(const PositionSpec& spec);

// Cosines and sines of a list of positions. Rows are filled once, then read by many threads.
class RotaryTable {
 public:
  RotaryTable() = default;
  // Room for positions first .. first + count - 1: count x rotary_size floats on the account, unfilled.
  RotaryTable(MemoryAccount& account, const PositionSpec& spec, std::int64_t first, std::int64_t count);
  // Likewise for these positions, which outlive it.
  RotaryTable(MemoryAccount& account, const PositionSpec& spec, const std::vector<std::int64_t>& positions);

  std::int64_t rows() const { return rows_; }

  // Computes rows begin .. end - 1, angles in double. Different rows may be filled at once.
  void Fill(std::int64_t begin, std::int64_t end);

  // Turns the first rotary_size channels of x, which stands at the position of this row. REQUIRES: the row is filled.
  void Turn(std::int64_t row, float* x) const;

 private:
  RotaryFrequencies frequencies_;
  ChannelLayout layout_ = ChannelLayout::kHalves;
  std::int64_t first_ = 0;
  const std::vector<std::int64_t>* positions_ = nullptr;  // null: first, first + 1, ...
  std::int64_t rows_ = 0;
  FloatBuffer table_;  // per row: rotary_size / 2 cosines, then as many sines
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_POSITIONS_ROTARY_H_
