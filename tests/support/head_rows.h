// Runs a pass over whole rows of weights on a problem of the oracle's.
#ifndef HEADLIGHT_TESTS_SUPPORT_HEAD_ROWS_H_
#define HEADLIGHT_TESTS_SUPPORT_HEAD_ROWS_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/engine/head_rows.h"
#include "tests/support/oracle.h"

namespace headlight::oracle {

// One sequence through a layer: B 1, embeddings input.
absl::StatusOr<HeadRowsPlan> PlanRows(const Bound& bound, const Limits& limits = {});

// With this many threads; memory is counted on `account`.
absl::Status RunRows(const HeadRowsPlan& plan, const Bound& bound, MemoryAccount& account, HeadRowsSink& sink,
                     int threads = 2);

// [Hq, Tk]: how long each key's value is behind each head's part of the output matrix, by the definition.
std::vector<double> ValueLengths(const Bound& bound);

}  // namespace headlight::oracle

#endif  // HEADLIGHT_TESTS_SUPPORT_HEAD_ROWS_H_
