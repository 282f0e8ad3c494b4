// What will be computed and what it will take, from the checked problem alone. Pure functions: no tensor data, clocks,
// queues, threads or caches found, so the same problem always gets the same tiles and with them the same bits.
#ifndef HEADLIGHT_SERVER_PLAN_PLANNER_H_
#define HEADLIGHT_SERVER_PLAN_PLANNER_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/errors.h"
#include "server/base/limits.h"
#include "server/problem/spec.h"

namespace headlight {

// What the processor brings that changes a plan.
struct Processor {
  bool multiplies_bf16 = false;     // products of bfloat16 of its own
  bool gains_from_packing = false;  // products are faster with K and V in an order of the library's own
};

// A tile of scores. Tails are padded with zeros to multiples of kTailRows and kTailKeys, so few shapes occur.
struct TileSize {
  std::int64_t query_rows = 0;
  std::int64_t keys = 0;
};
inline constexpr std::int64_t kTailRows = 16;
inline constexpr std::int64_t kTailKeys = 16;

// Heads that share a tile where the tokens of one alone would leave it empty: `group` query heads of one key/value head
// lie one below the other, as rows that meet the same keys, and `key_value_heads` such stacks side by side are one
// product of a batch. Never heads of different batches.
struct TileHeads {
  std::int64_t group = 1;
  std::int64_t key_value_heads = 1;
};

// Blocks of a projection: fixed height (tails padded), columns so that one block stays under a millisecond.
struct ProjectionBlocks {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

// Bytes of workspace beyond input and output.
struct WorkspaceBytes {
  std::int64_t scratch_per_lane = 0;       // tiles and accumulators of one worker
  std::int64_t grid = 0;                   // naive: B x Hq x Tq x Tk x 4; flash: 0
  std::int64_t row_norms = 0;              // largest score and sum of every row, where maps are made after attention
  std::int64_t verification = 0;           // verify_rows: keys, values and results in double
  std::int64_t verification_per_lane = 0;  // its scratch, after attention's is given back
  std::int64_t packed = 0;                 // K and V widened, narrowed, turned or packed up front, rotary tables
  std::int64_t projection = 0;             // widened embeddings and weights, Q, K, V, concatenation
};

class ExecutionPlan {
 public:
  ProblemSpec spec;
  Algorithm algorithm = Algorithm::kFlash;
  absl::string_view reason;  // why this algorithm; static text
  TileSize tile;
  TileHeads tile_heads;
  bool bf16_products = false;  // Q, K, V and P are multiplied as bfloat16; else as float32, rounded where asked for
  bool packs = false;          // K and V of another kind than products take, or turned, are made once, not by tile
  // Full tiles of K and of V are laid up front in the order in which products read them fastest.
  bool packs_key_tiles = false;
  bool packs_value_tiles = false;
  ProjectionBlocks projection_blocks;
  WorkspaceBytes bytes;
  std::int64_t flops = 0;             // 2 x visible pairs x Hq x (D + Dv), and 2 x rows x fan-in x fan-out
  std::int64_t map_flops = 0;         // what maps take beyond that: products of sweeps, and looking at scores
  std::int64_t score_grid_bytes = 0;  // what the full grid would take
  std::int64_t response_bytes = 0;
  std::int64_t sink_bytes = 0;  // what statistics, and maps in 16 bits, hold beside workspace and answer

  // Workspace with `lanes` workers.
  std::int64_t WorkspaceTotal(std::int64_t lanes) const {
    return std::max(bytes.scratch_per_lane, bytes.verification_per_lane) * lanes + bytes.verification + bytes.grid +
           bytes.row_norms + bytes.packed + bytes.projection;
  }

 private:
  explicit ExecutionPlan(ProblemSpec checked) : spec(std::move(checked)) {}
  friend ExecutionPlan DraftPlan(ProblemSpec spec, Processor processor);
};

// What the problem would take, whatever the limits are.
ExecutionPlan DraftPlan(ProblemSpec spec, Processor processor);

// Limits that the plan exceeds: FLOPs, workspace, the answer.
std::vector<Violation> ExceededLimits(const ExecutionPlan& plan, const Limits& limits);

// The third stage of a call.
// Errors: INVALID_ARGUMENT with REQUEST_TOO_EXPENSIVE (FLOPs, workspace) or RESPONSE_TOO_LARGE.
absl::StatusOr<ExecutionPlan> MakePlan(ProblemSpec spec, const Limits& limits, Processor processor);

// INVALID_ARGUMENT with RESPONSE_TOO_LARGE: an answer of up to `bytes`, of which `field` asks for most.
absl::Status ResponseTooLarge(absl::string_view field, std::int64_t bytes, std::int64_t limit_bytes);

// The blocks of projections whose largest fan-in is `deepest`.
ProjectionBlocks ChooseProjectionBlocks(std::int64_t deepest);

// The tile of a problem, from a fixed table; both algorithms use it. The same for all CPU targets and for bfloat16:
// others were measured and none was faster (docs/performance.md).
TileSize ChooseTile(const ProblemSpec& spec);
// Which heads share it.
TileHeads ChooseTileHeads(const ProblemSpec& spec, TileSize tile);

// Bytes that the library's order of a [depth, columns] matrix takes at most.
std::int64_t PackedTileBytes(std::int64_t depth, std::int64_t columns, bool bf16);

// Packed K and V of a call take at most this; beyond it they are made tile by tile.
inline constexpr std::int64_t kMaxPackedBytes = std::int64_t{16} << 20;

// FLOPs of the four projections; 0 for Q, K, V input.
std::int64_t ProjectionFlops(const ProblemSpec& spec);

// Doubles of scratch that the double reference needs for one row: query, biases, weights, heads and an embedding.
std::int64_t ReferenceScratch(const ProblemSpec& spec);

// Which rows of the output the double reference computes.
struct ReferencePlan {
  std::int64_t rows_total = 0;  // B x Tq
  std::int64_t rows = 0;        // evenly spread: row i is at i x rows_total / rows
  std::int64_t flops = 0;
};

// All rows up to 2e9 FLOPs, else as many as fit, at least one.
// Errors: INVALID_ARGUMENT with REQUEST_TOO_EXPENSIVE where keys and values alone take more than the limit.
absl::StatusOr<ReferencePlan> PlanReference(const ProblemSpec& spec, const Limits& limits);

// The rows that verify_rows asks for, at most all.
// Errors: INVALID_ARGUMENT with REQUEST_TOO_EXPENSIVE where they take more than the reference's limit.
absl::StatusOr<ReferencePlan> PlanVerification(const ProblemSpec& spec, const Limits& limits);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PLAN_PLANNER_H_
