// The choices of a call, as the contract names them. Shared by the unchecked request and the checked problem.
#ifndef HEADLIGHT_SERVER_PROBLEM_OPTIONS_H_
#define HEADLIGHT_SERVER_PROBLEM_OPTIONS_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace headlight {

enum class Algorithm : std::uint8_t { kNaive, kFlash };
enum class CausalAlignment : std::uint8_t { kTopLeft, kBottomRight, kExplicit };
enum class ChannelLayout : std::uint8_t { kHalves, kInterleaved };
enum class PositionKind : std::uint8_t { kNone, kSinusoidal, kLearned, kRotary, kAlibi };
enum class ComputePrecision : std::uint8_t { kFloat32, kBFloat16 };
enum class MapStage : std::uint8_t { kScaled, kSoftcapped, kBiased, kWeights };
enum class PoolReducer : std::uint8_t { kMax, kMean, kSum };
enum class RotaryScaling : std::uint8_t { kNone, kLinear, kNtkAware, kLlama3, kYarn };
enum class WeightsSource : std::uint8_t { kExplicit, kNamed, kSeeded };

// Where the heads of Q, K, V and of the output lie.
enum class HeadLayout : std::uint8_t {
  kHeadMajor,   // [B, H, T, D]
  kTokenMajor,  // [B, T, H * D], or [T, H * D]
};

// Stages before bias and masks: of every pair, also of those that may not attend.
constexpr bool IsRaw(MapStage stage) { return stage == MapStage::kScaled || stage == MapStage::kSoftcapped; }

// How rotary frequencies are changed for longer contexts; what a scaling does not use stays as it is here.
struct RotaryScalingOptions {
  RotaryScaling kind = RotaryScaling::kNone;
  double factor = 1;
  std::int64_t original_context = 0;       // Llama 3, YaRN: tokens
  double low_frequency_factor = 0;         // Llama 3
  double high_frequency_factor = 0;        // Llama 3
  double beta_fast = 32;                   // YaRN: turns
  double beta_slow = 1;                    // YaRN: turns
  std::optional<double> attention_factor;  // YaRN; absent: 0.1 ln(factor) + 1
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

// Half-open: begin .. end - 1.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROBLEM_OPTIONS_H_
