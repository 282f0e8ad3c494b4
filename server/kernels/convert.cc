#include "server/kernels/convert.h"

#include <cstring>

#include "server/base/half.h"
#include "server/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/kernels/convert.cc"
// clang-format off
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace headlight {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;
using BitsTag = hn::RebindToUnsigned<Tag>;
using HalfBitsTag = hn::Rebind<std::uint16_t, Tag>;
using HalfTag = hn::Rebind<hwy::float16_t, Tag>;

std::int64_t WidenBF16(const std::uint16_t* in, float* out, std::int64_t n) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto bits = hn::PromoteTo(BitsTag(), hn::LoadU(HalfBitsTag(), in + i));
    hn::StoreU(hn::BitCast(Tag(), hn::ShiftLeft<16>(bits)), Tag(), out + i);
  }
  return i;
}

// Where the instruction is emulated (SSE4, baseline) infinities, NaN and rounding are not IEEE's in every version:
// there the scalar tail does all of a row.
#define HEADLIGHT_HAS_F16 (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON)

std::int64_t WidenF16(const std::uint16_t* in, float* out, std::int64_t n) {
#if HEADLIGHT_HAS_F16
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto half = hn::BitCast(HalfTag(), hn::LoadU(HalfBitsTag(), in + i));
    hn::StoreU(hn::PromoteTo(Tag(), half), Tag(), out + i);
  }
  return i;
#else
  (void)in;
  (void)out;
  (void)n;
  return 0;
#endif
}

// The upper halves of what the numbers round to. Not Highway's DemoteTo for bfloat16: in the packaged 1.0.3 it
// truncates.
HWY_INLINE hn::Vec<BitsTag> UpperHalves(hn::Vec<Tag> v) {
  const BitsTag bits_tag;
  const auto bits = hn::BitCast(bits_tag, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(bits_tag, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(bits_tag, 0x7fff)));
  const auto quiet = hn::Or(bits, hn::Set(bits_tag, 0x400000));
  const auto is_nan = hn::RebindMask(bits_tag, hn::IsNaN(v));  // not v != v: in 1.0.3 NaN equals itself
  return hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded));
}

std::int64_t NarrowBF16(const float* in, std::uint16_t* out, std::int64_t n) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto upper = hn::BitCast(hn::RebindToSigned<Tag>(), UpperHalves(hn::LoadU(Tag(), in + i)));
    hn::StoreU(hn::DemoteTo(HalfBitsTag(), upper), HalfBitsTag(), out + i);
  }
  return i;
}

std::int64_t RoundBF16(float* row, std::int64_t n) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto upper = UpperHalves(hn::LoadU(Tag(), row + i));
    hn::StoreU(hn::BitCast(Tag(), hn::ShiftLeft<16>(upper)), Tag(), row + i);
  }
  return i;
}

std::int64_t NarrowF16(const float* in, std::uint16_t* out, std::int64_t n) {
#if HEADLIGHT_HAS_F16
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto half = hn::DemoteTo(HalfTag(), hn::LoadU(Tag(), in + i));
    hn::StoreU(hn::BitCast(HalfBitsTag(), half), HalfBitsTag(), out + i);
  }
  return i;
#else
  (void)in;
  (void)out;
  (void)n;
  return 0;
#endif
}

#undef HEADLIGHT_HAS_F16

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace headlight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(WidenBF16);
HWY_EXPORT(WidenF16);
HWY_EXPORT(NarrowBF16);
HWY_EXPORT(NarrowF16);
HWY_EXPORT(RoundBF16);

void WidenRow(TensorKind kind, const std::byte* in, float* out, std::int64_t n) {
  const auto* halves = reinterpret_cast<const std::uint16_t*>(in);
  if (kind == TensorKind::kF32) {
    std::memmove(out, in, static_cast<std::size_t>(n) * sizeof(float));
  } else if (kind == TensorKind::kBF16) {
    for (std::int64_t i = HWY_DYNAMIC_DISPATCH(WidenBF16)(halves, out, n); i < n; ++i)
      out[i] = FloatFromBF16(halves[i]);
  } else if (kind == TensorKind::kF16) {
    for (std::int64_t i = HWY_DYNAMIC_DISPATCH(WidenF16)(halves, out, n); i < n; ++i) out[i] = FloatFromF16(halves[i]);
  }
}

void NarrowRow(TensorKind kind, const float* in, std::byte* out, std::int64_t n) {
  auto* halves = reinterpret_cast<std::uint16_t*>(out);
  if (kind == TensorKind::kF32) {
    std::memmove(out, in, static_cast<std::size_t>(n) * sizeof(float));
  } else if (kind == TensorKind::kBF16) {
    for (std::int64_t i = HWY_DYNAMIC_DISPATCH(NarrowBF16)(in, halves, n); i < n; ++i) halves[i] = BF16FromFloat(in[i]);
  } else if (kind == TensorKind::kF16) {
    for (std::int64_t i = HWY_DYNAMIC_DISPATCH(NarrowF16)(in, halves, n); i < n; ++i) halves[i] = F16FromFloat(in[i]);
  }
}

void RoundRowToBF16(float* row, std::int64_t n) {
  for (std::int64_t i = HWY_DYNAMIC_DISPATCH(RoundBF16)(row, n); i < n; ++i)
    row[i] = FloatFromBF16(BF16FromFloat(row[i]));
}

}  // namespace headlight
#endif  // HWY_ONCE
