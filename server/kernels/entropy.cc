#include "server/kernels/entropy.h"

#include <limits>

#include "server/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/kernels/entropy.cc"
// clang-format off
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"
#include "server/kernels/tails-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace headlight {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE hn::Vec<Tag> MixedLog(hn::Vec<Tag> a, hn::Vec<Tag> b) {
  // Below the smallest normal number any finite logarithm will do: the product is nothing.
  const auto least = hn::Set(Tag(), std::numeric_limits<float>::min());
  const auto m = hn::Mul(hn::Add(a, b), hn::Set(Tag(), 0.5F));
  return hn::Mul(m, hn::Log(Tag(), hn::Max(m, least)));
}

float PieceT(const float* a, const float* b, std::int64_t n) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  auto sum = hn::Zero(Tag());
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    sum = hn::Add(sum, MixedLog(hn::LoadU(Tag(), a + i), hn::LoadU(Tag(), b + i)));
  }
  if (i < n) {
    const auto count = static_cast<std::size_t>(n - i);
    sum = hn::Add(sum, MixedLog(LoadTail(a + i, count, 0), LoadTail(b + i, count, 0)));
  }
  return hn::GetLane(hn::SumOfLanes(Tag(), sum));
}

double MixedLogSumT(const float* a, const float* b, std::int64_t n) {
  constexpr std::int64_t kPiece = 512;
  double sum = 0;
  for (std::int64_t i = 0; i < n; i += kPiece) {
    sum += static_cast<double>(PieceT(a + i, b + i, n - i < kPiece ? n - i : kPiece));
  }
  return sum;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace headlight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(MixedLogSumT);

double MixedLogSum(const float* a, const float* b, std::int64_t n) {
  return HWY_DYNAMIC_DISPATCH(MixedLogSumT)(a, b, n);
}

}  // namespace headlight
#endif  // HWY_ONCE
