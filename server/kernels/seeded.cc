#include "server/kernels/seeded.h"

#include <algorithm>

#include "server/kernels/convert.h"

namespace headlight {

std::uint64_t SplitMix64(std::uint64_t seed, std::uint64_t i) {
  std::uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

void SeededRow(const SeededStream& stream, std::int64_t first, std::int64_t n, float* out) {
  for (std::int64_t j = 0; j < n; ++j) {
    const std::uint64_t x = SplitMix64(stream.seed, static_cast<std::uint64_t>(first + j));
    out[j] = (static_cast<float>(x >> 40) * 0x1p-23F - 1.0F) * stream.factor;
  }
  constexpr std::int64_t kChunk = 512;
  alignas(8) std::byte rounded[kChunk * 2];
  for (std::int64_t j = 0; stream.kind != TensorKind::kF32 && j < n; j += kChunk) {
    const std::int64_t count = std::min(kChunk, n - j);
    NarrowRow(stream.kind, out + j, rounded, count);
    WidenRow(stream.kind, rounded, out + j, count);
  }
}

}  // namespace headlight
