// The value half of binding: what a call brought is looked at under its ticket, as work of the pool.
#ifndef HEADLIGHT_SERVER_ENGINE_CHECK_VALUES_H_
#define HEADLIGHT_SERVER_ENGINE_CHECK_VALUES_H_

#include <memory>
#include <string>
#include <vector>

#include "server/engine/data.h"
#include "server/engine/phased_work.h"
#include "server/problem/spec.h"

namespace headlight {

// A phase that fails with INVALID_ARGUMENT, naming each tensor and the first index per axis, where
// - Q, embeddings, context, weights, biases, a learned table, or keys and values within the key lengths hold NaN or
//   infinity;
// - an additive mask holds NaN or +inf, or a boolean one a byte other than 0 and 1.
// With allow_non_finite only the masks are looked at. Keys and values beyond the key lengths are not read. Named layers
// were looked at when they were loaded. `spec` and `data` outlive it.
std::unique_ptr<Phase> MakeValueCheck(const ProblemSpec& spec, const AttentionData& data);

// A phase that fails so where one of the tensors holds NaN or infinity, but for -inf where that is allowed. Empty ones
// are passed over. Their bytes outlive it.
struct NamedTensor {
  std::string field;
  TensorView tensor;
  bool minus_infinity = false;
};
std::unique_ptr<Phase> MakeValueCheck(const std::vector<NamedTensor>& tensors);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_CHECK_VALUES_H_
