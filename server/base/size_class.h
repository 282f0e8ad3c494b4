// Calls by what they cost: admission keeps a rate for each class, metrics a series.
#ifndef HEADLIGHT_SERVER_BASE_SIZE_CLASS_H_
#define HEADLIGHT_SERVER_BASE_SIZE_CLASS_H_

#include <cstdint>

namespace headlight {

// Under 1 GFLOP, under 20 GFLOP, and more.
enum class SizeClass : std::uint8_t { kSmall, kMedium, kLarge };
inline constexpr int kSizeClasses = 3;

constexpr SizeClass SizeClassOf(std::int64_t flops) {
  if (flops < 1'000'000'000) return SizeClass::kSmall;
  return flops < 20'000'000'000 ? SizeClass::kMedium : SizeClass::kLarge;
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BASE_SIZE_CLASS_H_
