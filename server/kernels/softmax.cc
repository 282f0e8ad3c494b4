#include "server/kernels/softmax.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "server/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/kernels/softmax.cc"
// clang-format off
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "server/kernels/tails-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace headlight {
namespace HWY_NAMESPACE {
namespace {

using Vec = hn::Vec<Tag>;
using IntTag = hn::RebindToSigned<Tag>;
using BitsTag = hn::RebindToUnsigned<Tag>;
using HalfBitsTag = hn::Rebind<std::uint16_t, Tag>;

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kUnroll = 4;  // vectors in flight: more than an addition takes cycles

// Minimax polynomials for 2^f on [-1/2, 1/2], from the highest power: relative errors of 1.9e-9 and 2.6e-6.
constexpr float kForFloats[] = {
    0.000153458124F, 0.00133999309F, 0.00961848907F, 0.0555032864F, 0.240226462F, 0.693147182F, 1.0F};
constexpr float kForBF16[] = {0.00957010221F, 0.0559178591F, 0.240247443F, 0.693121791F, 0.999999285F};

// exp(x) for x <= 0: 2^n 2^f with n + f = x log2(e) and |f| <= 1/2. The product with log2(e) is exact within the fused
// multiply-subtract, so that f loses nothing to n.
template <std::size_t kTerms>
HWY_INLINE Vec ExpOfNegative(Vec x, const float (&terms)[kTerms]) {
  const Tag tag;
  const auto log2e = hn::Set(tag, 1.44269504F);
  const auto round = hn::Set(tag, 12582912.0F);  // 1.5 x 2^23: adding it rounds to an integer, in the low bits
  const auto shifted = hn::MulAdd(x, log2e, round);
  const auto f = hn::MulSub(x, log2e, hn::Sub(shifted, round));
  auto p = hn::Set(tag, terms[0]);
  for (std::size_t i = 1; i < kTerms; ++i) p = hn::MulAdd(p, f, hn::Set(tag, terms[i]));
  const auto power = hn::ShiftLeft<23>(hn::BitCast(IntTag(), shifted));
  const auto scaled = hn::BitCast(tag, hn::Add(hn::BitCast(IntTag(), p), power));
  return hn::IfThenElseZero(hn::Gt(x, hn::Set(tag, -87.0F)), scaled);
}

// The largest of n scores; `trace` becomes NaN where one is NaN or infinite, and stays 0 otherwise.
HWY_INLINE Vec MaxOf(const float* row, std::int64_t n, Vec& trace) {
  const Tag tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  const auto zero = hn::Zero(tag);
  Vec most[kUnroll] = {hn::Set(tag, kNothing), hn::Set(tag, kNothing), hn::Set(tag, kNothing), hn::Set(tag, kNothing)};
  Vec seen[kUnroll] = {zero, zero, zero, zero};
  std::int64_t i = 0;
  for (; i + kUnroll * lanes <= n; i += kUnroll * lanes) {
    for (std::int64_t u = 0; u < kUnroll; ++u) {
      const auto v = hn::LoadU(tag, row + i + u * lanes);
      most[u] = hn::Max(most[u], v);
      seen[u] = hn::MulAdd(v, zero, seen[u]);
    }
  }
  for (; i < n; i += lanes) {
    const auto v =
        i + lanes <= n ? hn::LoadU(tag, row + i) : LoadTail(row + i, static_cast<std::size_t>(n - i), row[i]);
    most[0] = hn::Max(most[0], v);
    seen[0] = hn::MulAdd(v, zero, seen[0]);
  }
  trace = hn::Add(hn::Add(seen[0], seen[1]), hn::Add(seen[2], seen[3]));
  return hn::Max(hn::Max(most[0], most[1]), hn::Max(most[2], most[3]));
}

struct StoreFloats {
  static constexpr auto& kTerms = kForFloats;
  float* row;
  HWY_INLINE void operator()(Vec v, std::int64_t i) const { hn::StoreU(v, Tag(), row + i); }
};

// The upper halves of what finite numbers round to, ties upwards.
HWY_INLINE hn::Vec<BitsTag> UpperHalves(Vec v) {
  return hn::ShiftRight<16>(hn::Add(hn::BitCast(BitsTag(), v), hn::Set(BitsTag(), 0x8000)));
}

struct StoreRounded {
  static constexpr auto& kTerms = kForBF16;
  float* row;
  HWY_INLINE void operator()(Vec v, std::int64_t i) const {
    hn::StoreU(hn::BitCast(Tag(), hn::ShiftLeft<16>(UpperHalves(v))), Tag(), row + i);
  }
};

// Reads stay ahead of writes, though halves may lie where scores do: number i of a tile goes where number i / 2 was.
struct StoreBF16 {
  static constexpr auto& kTerms = kForBF16;
  std::uint16_t* row;
  HWY_INLINE void operator()(Vec v, std::int64_t i) const {
    const auto upper = UpperHalves(v);
    hn::StoreU(hn::DemoteTo(HalfBitsTag(), hn::BitCast(IntTag(), upper)), HalfBitsTag(), row + i);
  }
};

// Stores exp(score - largest) of n scores, whole vectors, and returns the sum.
template <typename Store>
HWY_INLINE float ExpWhole(const float* row, std::int64_t n, float largest, Store store) {
  const Tag tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  const auto by = hn::Set(tag, largest);
  const auto zero = hn::Zero(tag);
  Vec sums[kUnroll] = {zero, zero, zero, zero};
  std::int64_t i = 0;
  for (; i + kUnroll * lanes <= n; i += kUnroll * lanes) {
    for (std::int64_t u = 0; u < kUnroll; ++u) {
      const auto e = ExpOfNegative(hn::Sub(hn::LoadU(tag, row + i + u * lanes), by), Store::kTerms);
      store(e, i + u * lanes);
      sums[u] = hn::Add(sums[u], e);
    }
  }
  for (; i + lanes <= n; i += lanes) {
    const auto e = ExpOfNegative(hn::Sub(hn::LoadU(tag, row + i), by), Store::kTerms);
    store(e, i);
    sums[0] = hn::Add(sums[0], e);
  }
  return hn::GetLane(hn::SumOfLanes(tag, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
}

// Stores exp(score - largest) of n scores at `row`, and returns their sum.
float ExpTail(WeightPrecision precision, const float* row, std::size_t n, float largest, float* to,
              std::uint16_t* half) {
  const Tag tag;
  const auto x = hn::Sub(LoadTail(row, n, kNothing), hn::Set(tag, largest));
  const auto e = precision == WeightPrecision::kF32 ? ExpOfNegative(x, kForFloats) : ExpOfNegative(x, kForBF16);
  HWY_ALIGN float lanes[hn::MaxLanes(Tag())];
  HWY_ALIGN std::uint16_t narrow[hn::MaxLanes(Tag())];
  switch (precision) {
    case WeightPrecision::kF32: StoreFloats{lanes}(e, 0); break;
    case WeightPrecision::kRoundedToBF16: StoreRounded{lanes}(e, 0); break;
    case WeightPrecision::kBF16:
      StoreBF16{narrow}(e, 0);
      std::memcpy(half, narrow, n * sizeof(std::uint16_t));
      return hn::GetLane(hn::SumOfLanes(tag, e));
  }
  std::memcpy(to, lanes, n * sizeof(float));
  return hn::GetLane(hn::SumOfLanes(tag, e));
}

// A row's exponentials, and zeros where it sees no key. The sum.
float ExpRow(const SoftmaxTile& t, std::int64_t r, KeySpan seen, float largest) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  const std::int64_t n = seen.end - seen.begin;
  const std::int64_t whole = n / lanes * lanes;
  float* row = t.scores + r * t.padded;
  const float* from = row + seen.begin;
  std::uint16_t* halves = t.halves + r * t.padded;
  float sum = 0;
  switch (t.precision) {
    case WeightPrecision::kF32: sum = ExpWhole(from, whole, largest, StoreFloats{row + seen.begin}); break;
    case WeightPrecision::kRoundedToBF16: sum = ExpWhole(from, whole, largest, StoreRounded{row + seen.begin}); break;
    case WeightPrecision::kBF16: sum = ExpWhole(from, whole, largest, StoreBF16{halves + seen.begin}); break;
  }
  if (whole < n) {
    const std::int64_t at = seen.begin + whole;
    sum += ExpTail(t.precision, row + at, static_cast<std::size_t>(n - whole), largest, row + at, halves + at);
  }
  // Last: where bfloat16 goes, scores may have been.
  if (t.precision == WeightPrecision::kBF16) {
    std::fill(halves, halves + seen.begin, std::uint16_t{0});
    std::fill(halves + seen.end, halves + t.padded, std::uint16_t{0});
  } else {
    std::fill(row, row + seen.begin, 0.0F);
    std::fill(row + seen.end, row + t.padded, 0.0F);
  }
  return sum;
}

void ScaleRow(float* row, std::int64_t n, float factor) {
  const Tag tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  const auto by = hn::Set(tag, factor);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(tag, row + i), by), tag, row + i);
  for (; i < n; ++i) row[i] *= factor;
}

std::int64_t OnlineSoftmaxT(const SoftmaxTile& t) {
  for (std::int64_t r = 0; r < t.rows; ++r) {
    const float* row = t.scores + r * t.padded;
    const KeySpan seen = t.seen == nullptr ? KeySpan{0, t.keys} : t.seen[r];
    Vec trace;
    const auto most = MaxOf(row + seen.begin, seen.end - seen.begin, trace);
    if (!t.masked && !hn::AllTrue(Tag(), hn::Eq(trace, hn::Zero(Tag())))) return r;
    const float largest = std::max(t.largest[r], hn::GetLane(hn::MaxOfLanes(Tag(), most)));
    if (largest > t.largest[r]) {
      const float factor = std::exp(t.largest[r] - largest);
      t.sums[r] *= factor;
      if (factor != 0) {
        ScaleRow(t.output + r * t.size, t.size, factor);
      } else {
        std::fill_n(t.output + r * t.size, t.size, 0.0F);
      }
      t.largest[r] = largest;
    }
    // A row that has seen nothing yet gets zeros.
    t.sums[r] += ExpRow(t, r, largest == kNothing ? KeySpan() : seen, largest);
  }
  return t.rows;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace headlight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(OnlineSoftmaxT);

std::int64_t OnlineSoftmax(const SoftmaxTile& tile) { return HWY_DYNAMIC_DISPATCH(OnlineSoftmaxT)(tile); }

}  // namespace headlight
#endif  // HWY_ONCE
