// The instruction set that the kernels use, by name. One process uses one target: the same target gives the same bits
// on any machine that has it, but for products of bfloat16 (MultipliesBF16 in matmul.h), which not every avx512 has.
#ifndef HEADLIGHT_SERVER_KERNELS_CPU_TARGET_H_
#define HEADLIGHT_SERVER_KERNELS_CPU_TARGET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace headlight {

enum class CpuTarget : std::uint8_t { kAvx512, kAvx2, kSse4, kNeon, kBaseline };

// "avx512" (AVX-512 F, BW, CD, DQ, VL), "avx2" (with FMA and F16C), "sse4", "neon", "baseline".
absl::string_view NameOf(CpuTarget target);

// What this machine and this build can use, best first; never empty.
std::vector<CpuTarget> AvailableCpuTargets();

// What the kernels use now: the best, unless one was forced.
CpuTarget ActiveCpuTarget();

// Caps our own kernels and oneDNN's to a target. Call before the first kernel runs and from one thread.
// Errors: INVALID_ARGUMENT (no such name, or this machine has it not; lists those it has), FAILED_PRECONDITION
// (a matrix product already ran under another target).
absl::Status ForceCpuTarget(absl::string_view name);

// Highway's: "1.0.3".
std::string SimdLibraryVersion();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_CPU_TARGET_H_
