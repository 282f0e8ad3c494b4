// The shapes that benchmarks time, as the text files of this folder list them: what is timed is also what a test
// checks.
#ifndef HEADLIGHT_TESTS_BENCH_SHAPES_H_
#define HEADLIGHT_TESTS_BENCH_SHAPES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tests/support/oracle.h"

namespace headlight::bench {

struct Case {
  std::string name;
  oracle::Problem problem;  // float32; ProblemOf changes it
  std::vector<TensorKind> kinds;
  std::optional<double> goal;
};

// One case a line: name B Hq Hkv Tq Tk D Dv causal kinds goal; kinds of f32 and bf16 with commas between, - for no
// goal, # at the beginning of a comment. Sizes are positive, Hkv divides Hq, a tensor has less than 2^28 numbers.
// Errors: NOT_FOUND for a file that cannot be read or is empty, INVALID_ARGUMENT with the line that is wrong.
absl::StatusOr<std::vector<Case>> ReadShapes(const std::string& path);

// The case with tensors of this kind: bf16 tensors are computed with bfloat16 precision.
oracle::Problem ProblemOf(const Case& c, TensorKind kind);

// INVALID_ARGUMENT with the names there are where `only`, names with commas between or empty, has one of no case.
absl::Status CheckWanted(absl::string_view only, const std::vector<Case>& cases);

// Whether `only`, names with commas between, is empty or has this one.
bool IsWanted(absl::string_view only, absl::string_view name);

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_SHAPES_H_
