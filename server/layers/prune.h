// A layer without some of its heads: smaller matrices, the same output as with those heads at zero.
#ifndef HEADLIGHT_SERVER_LAYERS_PRUNE_H_
#define HEADLIGHT_SERVER_LAYERS_PRUNE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/tensor.h"
#include "server/layers/layer.h"

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

// The matrices that are left, in the old order. `shift` (Eo float32, or empty) is added to the output's bias, which is
// made where there was none. REQUIRES: `plan` is of this layer.
LayerMatrices PruneHeads(const Layer& layer, const PrunePlan& plan, const OwnedTensor& shift);

// Bytes of what PruneHeads makes.
std::int64_t PrunedBytes(const Layer& layer, const PrunePlan& plan, bool has_shift);

// The id of a file of our own scheme with these matrices: what SafetensorsHeader says, then their bytes.
std::string IdOf(const LayerMatrices& matrices);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_PRUNE_H_
