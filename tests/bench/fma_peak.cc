#include "tests/bench/fma_peak.h"

#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "server/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/fma_peak.cc"
// clang-format off
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace headlight::bench {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Ten sums that do not wait for each other cover two units of a latency of four to five cycles, and fit the sixteen
// registers of AVX2 with what is beside them. Returns the operations done; `sink` keeps the compiler from leaving them
// out.
double MultiplyAndAdd(std::int64_t steps, float* sink) {
  const hn::ScalableTag<float> tag;
  const auto a = hn::Set(tag, 0.999F);
  const auto b = hn::Set(tag, 0.001F);
  // Each begins elsewhere: of equal sums a compiler would compute one.
  const auto from = [tag, sink](float i) HWY_ATTR { return hn::Set(tag, *sink + i); };
  auto s0 = from(0), s1 = from(1), s2 = from(2), s3 = from(3), s4 = from(4), s5 = from(5);
  auto s6 = from(6), s7 = from(7), s8 = from(8), s9 = from(9);
  for (std::int64_t i = 0; i < steps; ++i) {
    s0 = hn::MulAdd(s0, a, b);
    s1 = hn::MulAdd(s1, a, b);
    s2 = hn::MulAdd(s2, a, b);
    s3 = hn::MulAdd(s3, a, b);
    s4 = hn::MulAdd(s4, a, b);
    s5 = hn::MulAdd(s5, a, b);
    s6 = hn::MulAdd(s6, a, b);
    s7 = hn::MulAdd(s7, a, b);
    s8 = hn::MulAdd(s8, a, b);
    s9 = hn::MulAdd(s9, a, b);
  }
  s0 = hn::Add(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), hn::Add(hn::Add(s4, s5), hn::Add(s6, s7)));
  s0 = hn::Add(s0, hn::Add(s8, s9));
  *sink = hn::GetLane(hn::SumOfLanes(tag, s0));
  return 2.0 * 10 * static_cast<double>(steps) * static_cast<double>(hn::Lanes(tag));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace headlight::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight::bench {

HWY_EXPORT(MultiplyAndAdd);

double SampleFmaPeak(int threads) {
  constexpr std::int64_t kSteps = 1'000'000;  // some 6 to 10 ms
  std::vector<double> gflops(static_cast<std::size_t>(threads));
  const auto sample = [&gflops](std::size_t at) {
    float sink = 1;
    (void)HWY_DYNAMIC_DISPATCH(MultiplyAndAdd)(kSteps / 10, &sink);  // the clock rises, the other threads start
    const absl::Time began = absl::Now();
    const double operations = HWY_DYNAMIC_DISPATCH(MultiplyAndAdd)(kSteps, &sink);
    gflops[at] = sink > 0 ? operations / absl::ToDoubleSeconds(absl::Now() - began) * 1e-9 : 0;
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(sample, static_cast<std::size_t>(i));
  sample(0);
  for (std::thread& other : others) other.join();
  return std::accumulate(gflops.begin(), gflops.end(), 0.0);
}

}  // namespace headlight::bench
#endif  // HWY_ONCE
