// What `attend --explain` and `plan` tell: what a call would take, what its answer means, and where each row looks.
#ifndef HEADLIGHT_CLIENT_CLI_EXPLAIN_H_
#define HEADLIGHT_CLIENT_CLI_EXPLAIN_H_

#include <string>

#include "absl/status/statusor.h"
#include "headlight/v1/attention_service.pb.h"

namespace headlight::cli {

// A few lines: algorithm and reason, heads, FLOPs, bytes of naive, flash, the full grid and the answer, and a line for
// each limit that the call would exceed.
std::string PlanText(const v1::PlanAttentionResponse& plan);

// A line for each convention that the answer follows, under a heading.
std::string ConventionsText(const v1::Execution& execution);

// Where each row of each head looks, by head: "it attends most to because (0.80)". A head and its rows are told once,
// from the first map that can tell it; a line that says why where no map can. INVALID_ARGUMENT where the answer
// contradicts itself.
absl::StatusOr<std::string> SentencesText(const v1::AttendRequest& request, const v1::AttendResponse& response);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_EXPLAIN_H_
