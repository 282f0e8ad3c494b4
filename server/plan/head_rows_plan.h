// What a pass over whole rows of weights of all heads takes. Pure, as planner.h.
#ifndef HEADLIGHT_SERVER_PLAN_HEAD_ROWS_PLAN_H_
#define HEADLIGHT_SERVER_PLAN_HEAD_ROWS_PLAN_H_

#include <cstdint>

#include "server/plan/planner.h"

namespace headlight {

struct HeadRowsPlan {
  // FLOPs and bytes are those of the pass: rows of one lane are in its scratch.
  ExecutionPlan plan;
  std::int64_t rows = 0;         // query rows that are looked at together
  std::int64_t stride = 0;       // floats from row to row of one lane's weights
  std::int64_t tile_floats = 0;  // of a lane's scratch, in front of the weights
  std::int64_t chains = 0;       // runs of blocks of rows; at once at most as many
  std::int64_t pairs = 0;        // that may attend, of one head
};

// Weights of one lane, [Hq, rows, keys], take at most 8 MiB, or one row of every head where that is more: memory grows
// with the tokens, never with their square. REQUIRES: one batch, and embeddings input.
HeadRowsPlan PlanHeadRows(ExecutionPlan plan);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PLAN_HEAD_ROWS_PLAN_H_
