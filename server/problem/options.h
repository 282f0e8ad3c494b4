// The choices of a call, as the contract names them. Shared by the unchecked request and the checked problem.
#ifndef HEADLIGHT_SERVER_PROBLEM_OPTIONS_H_
#define HEADLIGHT_SERVER_PROBLEM_OPTIONS_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace headlight {

enum class Algorithm : std::uint8_t { kNaive, kFlash };
enum class CausalAlignment : std::uint8_t { kTopLeft, kBottomRight, kExplicit };
enum class ChannelLayout : std::uint8_t { kHalves, kInterleaved };
enum class PositionKind : std::uint8_t { kNone, kSinusoidal, kLearned, kRotary, kAlibi };
enum class WeightsSource : std::uint8_t { kExplicit, kNamed, kSeeded };

// Where the heads of Q, K, V and of the output lie.
enum class HeadLayout : std::uint8_t {
  kHeadMajor,   // [B, H, T, D]
  kTokenMajor,  // [B, T, H * D], or [T, H * D]
};

// "naive", "flash".
constexpr absl::string_view NameOf(Algorithm algorithm) { return algorithm == Algorithm::kNaive ? "naive" : "flash"; }

// "none", "sinusoidal", "learned", "rotary", "alibi".
constexpr absl::string_view NameOf(PositionKind kind) {
  switch (kind) {
    case PositionKind::kNone: return "none";
    case PositionKind::kSinusoidal: return "sinusoidal";
    case PositionKind::kLearned: return "learned";
    case PositionKind::kRotary: return "rotary";
    case PositionKind::kAlibi: return "alibi";
  }
  return "none";
}

// Half-open.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROBLEM_OPTIONS_H_
