// Rotary positions: rows of Q and K are turned by their position (arXiv 2104.09864).
#ifndef HEADLIGHT_SERVER_POSITIONS_ROTARY_H_
#define HEADLIGHT_SERVER_POSITIONS_ROTARY_H_

#include <cstdint>

#include "server/base/memory.h"
#include "server/problem/spec.h"

namespace headlight {

// Cosines and sines of a run of positions. Rows are filled once, then read by many threads.
class RotaryTable {
 public:
  RotaryTable() = default;
  // Room for positions first .. first + count - 1: count x rotary_size floats on the account, unfilled.
  RotaryTable(MemoryAccount& account, const PositionSpec& spec, std::int64_t first, std::int64_t count);

  // Computes rows begin .. end - 1 (of `count`), angles in double. Different rows may be filled at once.
  void Fill(std::int64_t begin, std::int64_t end);

  // Turns the first rotary_size channels of x, which stands at position first + row. REQUIRES: the row is filled.
  void Turn(std::int64_t row, float* x) const;

 private:
  PositionSpec spec_;
  std::int64_t first_ = 0;
  FloatBuffer table_;  // per row: rotary_size / 2 cosines, then as many sines
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_POSITIONS_ROTARY_H_
