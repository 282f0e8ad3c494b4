// What the results of the kernels say about the instructions that made them.
#ifndef HEADLIGHT_TESTS_KERNELS_FINGERPRINT_H_
#define HEADLIGHT_TESTS_KERNELS_FINGERPRINT_H_

#include <cstdint>
#include <vector>

#include "server/kernels/cpu_target.h"
#include "server/kernels/matmul.h"
#include "server/kernels/rows.h"

namespace headlight {

// How many lanes add up a row. A one swallows numbers below half its last bit one by one; a lane without the one
// gathers six of them or more into something that is seen, whatever the order in which lanes are added.
inline int MeasuredLanes() {
  for (const std::size_t lanes : {1, 2, 4, 8}) {
    std::vector<float> row(96, -1000.0F);                                      // exp: 0
    row[0] = 0;                                                                // exp: 1
    for (std::size_t i = lanes; i < row.size(); i += lanes) row[i] = -17.33F;  // exp: about 2^-25
    if (ExpAndSum(row.data(), static_cast<std::int64_t>(row.size()), 0) == 1) return static_cast<int>(lanes);
  }
  return 16;
}

// Their square is 1 + 2^-11 + 2^-24, one bit too long for a float: only a fused product keeps the last one.
inline constexpr float kLongFactor = 1 + 0x1p-12F;
inline constexpr float kRoundedSquare = 1 + 0x1p-11F;

// Whether rows multiply and add in one step.
inline bool RowsFuse() {
  float row[32];
  for (float& x : row) x = kRoundedSquare;
  SubtractDistance(row, 1, kLongFactor, kLongFactor);
  return row[0] != 0;
}

// Whether matrix products do.
inline bool MatmulFuses() {
  constexpr std::int64_t kSize = 16;
  std::vector<float> a(kSize * 2);
  std::vector<float> b(2 * kSize);
  std::vector<float> c(kSize * kSize);
  for (std::int64_t i = 0; i < kSize; ++i) {
    a[static_cast<std::size_t>(2 * i)] = 1;
    a[static_cast<std::size_t>(2 * i + 1)] = kLongFactor;
    b[static_cast<std::size_t>(i)] = -kRoundedSquare;
    b[static_cast<std::size_t>(kSize + i)] = kLongFactor;
  }
  MatmulCache cache;
  const bool done = cache.Run({kSize, kSize, 2, 2, kSize, kSize, false, false}, a.data(), b.data(), c.data()).ok();
  return done && c[0] != 0;
}

// What a target must show.
inline bool FitsLanes(CpuTarget target, int lanes) {
  switch (target) {
    case CpuTarget::kAvx512: return lanes == 16;
    case CpuTarget::kAvx2: return lanes == 8;
    case CpuTarget::kSse4:
    case CpuTarget::kNeon: return lanes == 4;
    case CpuTarget::kBaseline: return lanes <= 4;
  }
  return false;
}

inline bool Fuses(CpuTarget target) {
  return target == CpuTarget::kAvx512 || target == CpuTarget::kAvx2 || target == CpuTarget::kNeon;
}

}  // namespace headlight

#endif  // HEADLIGHT_TESTS_KERNELS_FINGERPRINT_H_
