// A layer without some of its heads: smaller matrices, the same output as with those heads at zero.
#ifndef HEADLIGHT_SERVER_LAYERS_PRUNE_H_
#define HEADLIGHT_SERVER_LAYERS_PRUNE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/tensor.h"
#include "server/layers/layer.h"
#include "server/layers/recipe.h"

namespace headlight {

struct PrunePlan {
  std::vector<std::int64_t> kept;                     // query heads that stay, ascending
  std::vector<std::int64_t> kept_key_value;           // likewise
  std::int64_t query_heads = 0, key_value_heads = 0;  // of the old layer
};

// Which heads stay where `heads` go. With grouped heads every group keeps as many, or goes with its key/value head.
// `query_heads` and `key_value_heads` count where the layer does not say them; key/value heads of 0 are as many as the
// layer's widths make them.
// Errors: INVALID_ARGUMENT with violations of "heads", "query_heads" and "key_value_heads".
absl::StatusOr<PrunePlan> PlanPrune(const Layer& layer, const std::vector<std::int64_t>& heads,
                                    std::int64_t query_heads, std::int64_t key_value_heads);

// One matrix of what is left, in the old order; empty where the layer has none. REQUIRES: `plan` is of this layer.
OwnedTensor PruneField(const Layer& layer, const PrunePlan& plan, LayerField field);

// Adds a row (Eo float32, or empty) to the output's bias, which is made where there was none.
void ShiftOutput(const OwnedTensor& shift, LayerMatrices& matrices);

// Bytes of what is left.
std::int64_t PrunedBytes(const Layer& layer, const PrunePlan& plan, bool has_shift);

// The beginning of a file of our own scheme with these matrices; their bytes follow in the order of LayerField. The
// digest of such a file is the id of what was pruned.
std::string HeaderOf(const LayerMatrices& matrices);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_PRUNE_H_
