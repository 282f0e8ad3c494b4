// The grammars of flags that hold more than one word or number. Each error is INVALID_ARGUMENT and names the flag, what
// was given and what is allowed. What the numbers mean is the server's to check.
#ifndef HEADLIGHT_CLIENT_CLI_PARSE_FLAGS_H_
#define HEADLIGHT_CLIENT_CLI_PARSE_FLAGS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "headlight/v1/options.pb.h"
#include "headlight/v1/outputs.pb.h"

namespace headlight::cli {

// The diagonal of a causal or a window mask.
struct Alignment {
  v1::CausalAlignment alignment = v1::CAUSAL_ALIGNMENT_UNSPECIFIED;
  std::optional<std::int64_t> offset;  // with EXPLICIT alone
};

// "top-left", "bottom-right", "explicit:-3".
absl::StatusOr<Alignment> ParseAlignment(absl::string_view flag, absl::string_view text);

// "4,0": keys before and after; a side that is empty or "*" is unbounded.
absl::StatusOr<v1::WindowMask> ParseWindow(absl::string_view text);

// "linear:2", "ntk:2", "llama3:8,1,4,8192", "yarn:4,4096", "yarn:4,4096,32,1", "yarn:4,4096,32,1,1.1386". Sets the
// scaling of `rotary`.
absl::Status ParseRotaryScaling(absl::string_view text, v1::RotaryPositions* rotary);

// "0,0,1"; not empty.
absl::StatusOr<std::vector<std::int64_t>> ParseIntegers(absl::string_view flag, absl::string_view text);

// "0.5,-1"; not empty.
absl::StatusOr<std::vector<float>> ParseNumbers(absl::string_view flag, absl::string_view text);

// "0:4,10:12"; not empty.
absl::StatusOr<std::vector<v1::RowRange>> ParseRanges(absl::string_view flag, absl::string_view text);

// HEADS[:FORM][@STAGE]. HEADS: "all" or "0,2". FORM: "full" unless given, "top=8", "pooled=16x16,max" (mean, sum) or
// "columns". STAGE: "weights" unless given, "scaled", "softcapped" or "biased".
absl::StatusOr<v1::WeightMaps> ParseMaps(absl::string_view text);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_PARSE_FLAGS_H_
