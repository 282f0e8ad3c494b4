#include "server/kernels/cpu_target.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "server/kernels/matmul.h"
#include "server/kernels/simd_targets.h"

// clang-format off: Highway comes after the list of its targets.
#include "hwy/highway.h"
// clang-format on

namespace headlight {
namespace {

struct NamedTarget {
  CpuTarget target;
  absl::string_view name;
  std::int64_t bits;  // Highway's
};

constexpr NamedTarget kTargets[] = {
    {CpuTarget::kAvx512, "avx512", HWY_AVX3},
    {CpuTarget::kAvx2, "avx2", HWY_AVX2},
    {CpuTarget::kSse4, "sse4", HWY_SSE4},
    {CpuTarget::kNeon, "neon", HWY_NEON},
    {CpuTarget::kBaseline, "baseline", HWY_STATIC_TARGET},
};

// What machine and build have. Asked once, before a target is forced: in Highway 1.0.3 SupportedTargets() also turns
// the kernels back to the best target, whatever DisableTargets() was told.
std::int64_t DetectedTargets() {
  static const std::int64_t detected = hwy::SupportedTargets() & (HWY_TARGETS);
  return detected;
}

// The forced target's place in kTargets; -1: none.
std::atomic<int> forced_target{-1};

}  // namespace

absl::string_view NameOf(CpuTarget target) { return kTargets[static_cast<std::size_t>(target)].name; }

std::vector<CpuTarget> AvailableCpuTargets() {
  const std::int64_t usable = DetectedTargets();
  std::vector<CpuTarget> available;
  for (const NamedTarget& t : kTargets) {
    const bool is_static = t.bits == HWY_STATIC_TARGET;
    const bool listed =
        t.target == CpuTarget::kBaseline ? available.empty() || usable != HWY_STATIC_TARGET : (usable & t.bits) != 0;
    if (listed || is_static) available.push_back(t.target);
  }
  return available;
}

CpuTarget ActiveCpuTarget() {
  const int forced = forced_target.load();
  return forced >= 0 ? kTargets[forced].target : AvailableCpuTargets().front();
}

absl::Status ForceCpuTarget(absl::string_view name) {
  const std::vector<CpuTarget> available = AvailableCpuTargets();
  const auto* wanted =
      std::find_if(std::begin(kTargets), std::end(kTargets), [name](const NamedTarget& t) { return t.name == name; });
  if (wanted == std::end(kTargets) ||
      std::find(available.begin(), available.end(), wanted->target) == available.end()) {
    const std::string names = absl::StrJoin(
        available, ", ", [](std::string* out, CpuTarget target) { absl::StrAppend(out, NameOf(target)); });
    return absl::InvalidArgumentError(
        absl::StrCat("CPU target \"", name, "\" is not one of those this machine has: ", names));
  }
  if (const absl::Status capped = CapMatmulTarget(wanted->target); !capped.ok()) return capped;
  // Highway's bits: within one architecture the better target has the lower bit.
  forced_target = static_cast<int>(wanted - kTargets);
  hwy::DisableTargets(wanted->bits - 1);
  // Chosen now and by this thread: the first kernels would each choose, and see the best target meanwhile.
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  return absl::OkStatus();
}

std::string SimdLibraryVersion() { return absl::StrCat(HWY_MAJOR, ".", HWY_MINOR, ".", HWY_PATCH); }

}  // namespace headlight
