#include "server/kernels/rows.h"

#include <cmath>
#include <limits>

#include "server/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/kernels/rows.cc"
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

// Calls full(i) for every whole vector and tail(i, count) for what is left.
template <typename Full, typename Tail>
HWY_INLINE void ForVectors(std::int64_t n, Full full, Tail tail) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) full(i);
  if (i < n) tail(i, static_cast<std::size_t>(n - i));
}

// out[i] = f(in[i], i) for vectors.
template <typename F>
HWY_INLINE void Map(const float* in, float* out, std::int64_t n, F f) {
  ForVectors(
      n, [&](std::int64_t i) { hn::StoreU(f(hn::LoadU(Tag(), in + i), i), Tag(), out + i); },
      [&](std::int64_t i, std::size_t count) { StoreTail(f(LoadTail(in + i, count, 0), i), out + i, count); });
}

float RowMaxT(const float* row, std::int64_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  auto most = hn::Set(Tag(), kLowest);
  ForVectors(
      n, [&](std::int64_t i) { most = hn::Max(most, hn::LoadU(Tag(), row + i)); },
      [&](std::int64_t i, std::size_t count) { most = hn::Max(most, LoadTail(row + i, count, kLowest)); });
  return hn::GetLane(hn::MaxOfLanes(Tag(), most));
}

float ExpAndSumT(float* row, std::int64_t n, float shift) {
  const auto by = hn::Set(Tag(), shift);
  auto sum = hn::Zero(Tag());
  ForVectors(
      n,
      [&](std::int64_t i) {
        const auto e = hn::Exp(Tag(), hn::Sub(hn::LoadU(Tag(), row + i), by));
        hn::StoreU(e, Tag(), row + i);
        sum = hn::Add(sum, e);
      },
      [&](std::int64_t i, std::size_t count) {
        constexpr float kNothing = -std::numeric_limits<float>::infinity();
        const auto e = hn::Exp(Tag(), hn::Sub(LoadTail(row + i, count, kNothing), by));
        StoreTail(e, row + i, count);
        sum = hn::Add(sum, e);
      });
  return hn::GetLane(hn::SumOfLanes(Tag(), sum));
}

void SoftcapRowT(float* row, std::int64_t n, float cap) {
  const auto by = hn::Set(Tag(), cap);
  const auto inverse = hn::Set(Tag(), 1 / cap);
  Map(row, row, n, [by, inverse](hn::Vec<Tag> v, std::int64_t) HWY_ATTR {
    const auto capped = hn::Mul(by, hn::Tanh(Tag(), hn::Mul(v, inverse)));
    return hn::IfThenElse(hn::IsNaN(v), v, capped);
  });
}

// Not three results by reference: dispatch takes plain functions.
void ExpMomentsT(const float* row, const float* distances, std::int64_t n, float shift, float* sums) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  // exp of less is 0 in float32; -inf x 0 would be NaN.
  const auto least = hn::Set(Tag(), -200.0F);
  const auto by = hn::Set(Tag(), shift);
  auto weight = hn::Zero(Tag());
  auto score = hn::Zero(Tag());
  auto distance = hn::Zero(Tag());
  const auto add = [&](hn::Vec<Tag> scores, hn::Vec<Tag> from) HWY_ATTR {
    const auto t = hn::Max(hn::Sub(scores, by), least);
    const auto e = hn::Exp(Tag(), t);
    weight = hn::Add(weight, e);
    score = hn::MulAdd(e, t, score);
    distance = hn::MulAdd(e, from, distance);
  };
  ForVectors(
      n, [&](std::int64_t i) { add(hn::LoadU(Tag(), row + i), hn::LoadU(Tag(), distances + i)); },
      [&](std::int64_t i, std::size_t count) {
        add(LoadTail(row + i, count, kNothing), LoadTail(distances + i, count, 0));
      });
  sums[0] = hn::GetLane(hn::SumOfLanes(Tag(), weight));
  sums[1] = hn::GetLane(hn::SumOfLanes(Tag(), score));
  sums[2] = hn::GetLane(hn::SumOfLanes(Tag(), distance));
}

void ScaleIntoT(const float* in, float* out, std::int64_t n, float factor) {
  const auto by = hn::Set(Tag(), factor);
  Map(in, out, n, [by](hn::Vec<Tag> v, std::int64_t) HWY_ATTR { return hn::Mul(v, by); });
}

void AddRowT(float* row, const float* other, std::int64_t n) {
  ForVectors(
      n,
      [&](std::int64_t i) {
        hn::StoreU(hn::Add(hn::LoadU(Tag(), row + i), hn::LoadU(Tag(), other + i)), Tag(), row + i);
      },
      [&](std::int64_t i, std::size_t count) {
        StoreTail(hn::Add(LoadTail(row + i, count, 0), LoadTail(other + i, count, 0)), row + i, count);
      });
}

void AddScaledRowT(float* row, const float* other, std::int64_t n, float factor) {
  const auto by = hn::Set(Tag(), factor);
  ForVectors(
      n,
      [&](std::int64_t i) {
        hn::StoreU(hn::MulAdd(by, hn::LoadU(Tag(), other + i), hn::LoadU(Tag(), row + i)), Tag(), row + i);
      },
      [&](std::int64_t i, std::size_t count) {
        StoreTail(hn::MulAdd(by, LoadTail(other + i, count, 0), LoadTail(row + i, count, 0)), row + i, count);
      });
}

void SubtractDistanceT(float* row, std::int64_t n, float slope, float first, float base) {
  const auto by = hn::Set(Tag(), slope);
  const auto less = hn::Set(Tag(), base);
  Map(row, row, n, [by, less, first](hn::Vec<Tag> v, std::int64_t i) HWY_ATTR {
    const auto distance = hn::Abs(hn::Iota(Tag(), first + static_cast<float>(i)));
    return hn::NegMulAdd(by, hn::Sub(distance, less), v);
  });
}

double DotInDoubleT(const float* a, const float* b, std::int64_t n) {
  const hn::ScalableTag<double> wide;
  const hn::Rebind<float, decltype(wide)> narrow;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(wide));
  const auto load = [&](const float* from) HWY_ATTR { return hn::PromoteTo(wide, hn::LoadU(narrow, from)); };
  // Two sums: one would wait for itself.
  auto even = hn::Zero(wide);
  auto odd = hn::Zero(wide);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    even = hn::MulAdd(load(a + i), load(b + i), even);
    odd = hn::MulAdd(load(a + i + lanes), load(b + i + lanes), odd);
  }
  double sum = hn::GetLane(hn::SumOfLanes(wide, hn::Add(even, odd)));
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

std::int64_t FirstNonFiniteT(const float* row, std::int64_t n) {
  // x - x is 0 for a finite x and NaN otherwise, and NaN stays in a sum.
  auto trace = hn::Zero(Tag());
  constexpr std::int64_t kBlock = 1024;
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t count = n - begin < kBlock ? n - begin : kBlock;
    ForVectors(
        count,
        [&](std::int64_t i) {
          const auto v = hn::LoadU(Tag(), row + begin + i);
          trace = hn::Add(trace, hn::Sub(v, v));
        },
        [&](std::int64_t i, std::size_t rest) {
          const auto v = LoadTail(row + begin + i, rest, 0);
          trace = hn::Add(trace, hn::Sub(v, v));
        });
    if (hn::GetLane(hn::SumOfLanes(Tag(), trace)) == 0) continue;
    for (std::int64_t i = begin; i < begin + count; ++i) {
      if (!std::isfinite(row[i])) return i;
    }
  }
  return n;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace headlight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(RowMaxT);
HWY_EXPORT(ExpAndSumT);
HWY_EXPORT(SoftcapRowT);
HWY_EXPORT(ExpMomentsT);
HWY_EXPORT(ScaleIntoT);
HWY_EXPORT(AddRowT);
HWY_EXPORT(AddScaledRowT);
HWY_EXPORT(SubtractDistanceT);
HWY_EXPORT(DotInDoubleT);
HWY_EXPORT(FirstNonFiniteT);

float RowMax(const float* row, std::int64_t n) { return HWY_DYNAMIC_DISPATCH(RowMaxT)(row, n); }

float ExpAndSum(float* row, std::int64_t n, float shift) { return HWY_DYNAMIC_DISPATCH(ExpAndSumT)(row, n, shift); }

void WeightsFromScores(float* row, std::int64_t n, RowNorm norm) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  if (std::isnan(norm.factor)) {
    for (std::int64_t i = 0; i < n; ++i) row[i] = row[i] == kNothing ? 0 : norm.factor;
  } else if (norm.largest == kNothing) {
    for (std::int64_t i = 0; i < n; ++i) row[i] = 0;
  } else {
    ExpAndSum(row, n, norm.largest);
    ScaleRow(row, n, norm.factor);
  }
}

void SoftcapRow(float* row, std::int64_t n, float cap) { HWY_DYNAMIC_DISPATCH(SoftcapRowT)(row, n, cap); }

RowMoments ExpMoments(const float* row, const float* distances, std::int64_t n, float shift) {
  float sums[3];
  HWY_DYNAMIC_DISPATCH(ExpMomentsT)(row, distances, n, shift, sums);
  return {sums[0], sums[1], sums[2]};
}

void ScaleRow(float* row, std::int64_t n, float factor) { ScaleInto(row, row, n, factor); }

void ScaleInto(const float* in, float* out, std::int64_t n, float factor) {
  HWY_DYNAMIC_DISPATCH(ScaleIntoT)(in, out, n, factor);
}

void AddRow(float* row, const float* other, std::int64_t n) { HWY_DYNAMIC_DISPATCH(AddRowT)(row, other, n); }

void AddScaledRow(float* row, const float* other, std::int64_t n, float factor) {
  HWY_DYNAMIC_DISPATCH(AddScaledRowT)(row, other, n, factor);
}

void SubtractDistance(float* row, std::int64_t n, float slope, float first, float base) {
  HWY_DYNAMIC_DISPATCH(SubtractDistanceT)(row, n, slope, first, base);
}

double DotInDouble(const float* a, const float* b, std::int64_t n) {
  return HWY_DYNAMIC_DISPATCH(DotInDoubleT)(a, b, n);
}

std::int64_t FirstNonFinite(const float* row, std::int64_t n) { return HWY_DYNAMIC_DISPATCH(FirstNonFiniteT)(row, n); }

}  // namespace headlight
#endif  // HWY_ONCE
