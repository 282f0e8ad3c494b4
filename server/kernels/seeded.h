// Numbers from a seed, the same everywhere: SplitMix64 (Steele, Lea, Flood 2014), whose i-th number depends on the seed
// and i alone, so that any part can be made by itself.
#ifndef HEADLIGHT_SERVER_KERNELS_SEEDED_H_
#define HEADLIGHT_SERVER_KERNELS_SEEDED_H_

#include <cmath>
#include <cstdint>

#include "server/base/tensor.h"

namespace headlight {

// The i-th output of SplitMix64(seed), from 0.
std::uint64_t SplitMix64(std::uint64_t seed, std::uint64_t i);

// u(i) x factor with u = (SplitMix64 >> 40) x 2^-23 - 1, in [-1, 1), all in float32, then rounded to `kind`.
struct SeededStream {
  std::uint64_t seed = 0;
  float factor = 1;
  TensorKind kind = TensorKind::kF32;
};

// The factor of embeddings (variance 1), and of a matrix (Glorot & Bengio 2010, uniform).
inline constexpr float kEmbeddingsFactor = 1.7320508F;
inline float WeightsFactor(std::int64_t fan_in, std::int64_t fan_out) {
  return std::sqrt(6.0F / static_cast<float>(fan_in + fan_out));
}

// out[j] = number first + j of the stream, j < n.
void SeededRow(const SeededStream& stream, std::int64_t first, std::int64_t n, float* out);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_SEEDED_H_
