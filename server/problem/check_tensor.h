// What every tensor of a request must be, whichever call it came with.
#ifndef HEADLIGHT_SERVER_PROBLEM_CHECK_TENSOR_H_
#define HEADLIGHT_SERVER_PROBLEM_CHECK_TENSOR_H_

#include "absl/strings/string_view.h"
#include "server/base/errors.h"
#include "server/base/limits.h"
#include "server/base/tensor.h"

namespace headlight {

// How many axes a tensor may have.
struct Ranks {
  int least = 1;
  int most = 4;
};

// Shape sane (rank, every axis >= 1, product within limits), payload as large as the shape says; adds what is not. True
// where the shape can be used.
bool CheckTensor(absl::string_view field, const TensorForm& form, Ranks ranks, const Limits& limits,
                 Violations& violations);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROBLEM_CHECK_TENSOR_H_
