// Which of Highway's targets are compiled: the named ones of cpu_target.h and the compiler's baseline. To be included
// before anything of Highway's.
#ifndef HEADLIGHT_SERVER_KERNELS_SIMD_TARGETS_H_
#define HEADLIGHT_SERVER_KERNELS_SIMD_TARGETS_H_

// Refinements of the named targets would be further sets of bits for no gain in these kernels.
#if defined(__x86_64__)
#define HWY_DISABLED_TARGETS ((1LL << 12) | 0xffLL)  // SSSE3; everything newer than AVX3
#elif defined(__aarch64__)
#define HWY_DISABLED_TARGETS (0xfLL << 24)  // SVE
#endif

#endif  // HEADLIGHT_SERVER_KERNELS_SIMD_TARGETS_H_
