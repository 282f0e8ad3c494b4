// What a stack of attention-only layers over one text takes, from forms alone. Pure, as the planner is.
#ifndef HEADLIGHT_SERVER_PLAN_STACK_PLAN_H_
#define HEADLIGHT_SERVER_PLAN_STACK_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/limits.h"
#include "server/plan/planner.h"
#include "server/problem/request.h"

namespace headlight {

inline constexpr std::int64_t kMostStackLayers = 64;

// A stack without its numbers. Letters: E width, V words, T tokens.
struct StackForm {
  std::int64_t width = 0;         // E
  std::int64_t words = 0;         // V
  std::vector<LayerForm> layers;  // each reads and writes E, and says its heads
  bool causal = true;             // aligned top left
};

// What is asked of it.
struct StackWish {
  std::int64_t tokens = 0;                     // T
  std::vector<std::vector<float>> head_gains;  // by layer: Hq of them, or none
  bool maps = false;                           // of every layer and head
  bool logits = false;                         // of every token
  std::int64_t text_bytes = 0;                 // of words and bets in the answer
};

struct StackPlan {
  std::vector<ExecutionPlan> layers;  // outputs: output, head outputs, statistics, and full maps where asked for
  ProjectionBlocks unembedding;
  std::int64_t tokens = 0;
  std::int64_t width = 0;
  std::int64_t words = 0;
  bool logits = false;
  std::int64_t flops = 0;           // of layers, maps, unembedding and attribution
  std::int64_t response_bytes = 0;  // at most
  std::int64_t stream_bytes = 0;    // the residual stream, once more normalised, and the last token's logits

  std::int64_t unembedding_scratch() const { return unembedding.rows * (width + unembedding.columns); }
  // Workspace with `lanes` workers: the stream, and the layer that takes most, for one is there at a time.
  std::int64_t WorkspaceTotal(std::int64_t lanes) const;
};

// Errors: those of CheckProblem, and INVALID_ARGUMENT with REQUEST_TOO_EXPENSIVE ("stack": layers, FLOPs, workspace) or
// RESPONSE_TOO_LARGE ("maps" or "logits"). REQUIRES: 1 <= tokens <= max_tokens.
absl::StatusOr<StackPlan> PlanStack(const StackForm& stack, const StackWish& wish, const Limits& limits,
                                    Processor processor);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PLAN_STACK_PLAN_H_
