// The softmax of flash attention, a tile at a time. Vectorised for every CPU target; results depend on the target
// alone. No allocation, no locks; thread-safe.
#ifndef HEADLIGHT_SERVER_KERNELS_SOFTMAX_H_
#define HEADLIGHT_SERVER_KERNELS_SOFTMAX_H_

#include <cstdint>

namespace headlight {

// How exponentials are stored: float32 or float32 rounded to bfloat16 (nearest, ties to even), in place; or bfloat16
// itself, in SoftmaxTile::halves. Sums are of what was before rounding.
enum class WeightPrecision : std::uint8_t { kF32, kRoundedToBF16, kBF16 };

// Keys begin .. end - 1 of a tile.
struct KeySpan {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// Rows of scores that become exponentials, and what each row has gathered from the tiles before.
struct SoftmaxTile {
  float* scores = nullptr;  // [rows, padded], of which `keys` count
  std::int64_t rows = 0;
  std::int64_t keys = 0;
  std::int64_t padded = 0;  // >= keys
  // [rows, padded], where kBF16 goes: `scores` themselves, or what is neither they nor beyond. Never null.
  std::uint16_t* halves = nullptr;
  float* largest = nullptr;  // [rows], -inf while a row has seen no key
  float* sums = nullptr;     // [rows]
  float* output = nullptr;   // [rows, size]: scaled down where a row's largest score rises
  std::int64_t size = 0;
  WeightPrecision precision = WeightPrecision::kF32;
  bool masked = false;  // scores of -inf are pairs that may not attend; otherwise no score may be infinite
  // [rows], or null: the keys that each row may see; scores of others are not looked at, and become 0.
  const KeySpan* seen = nullptr;
};

// One step of the online softmax (Milakov & Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135, algorithm 1):
// with m the largest score of a row so far, this tile included, scores become exp(score - m), zeros stand from `keys`
// to `padded`, the sum and the output that were gathered under an older m are scaled by exp(old m - m), and the sum
// grows. exp(x) has a relative error under 2e-7 (1 + |x|), and 4e-6 more where it is rounded to bfloat16; exp of less
// than -87 is 0. Returns the first row that holds a NaN, +inf, or, unless masked, -inf: it and the rows after it are as
// they were. `rows`: there is none.
std::int64_t OnlineSoftmax(const SoftmaxTile& tile);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_SOFTMAX_H_
