// What the processor can multiply and add at most: the ceiling that kernels are measured against.
#ifndef HEADLIGHT_TESTS_BENCH_FMA_PEAK_H_
#define HEADLIGHT_TESTS_BENCH_FMA_PEAK_H_

namespace headlight::bench {

// Float32 operations a second, in GFLOP/s, of `threads` threads that do nothing but multiply and add on the active CPU
// target, for some milliseconds. One call is one sample: the largest of several is the peak.
double SampleFmaPeak(int threads);

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_FMA_PEAK_H_
