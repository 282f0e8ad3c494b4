// The parts of CheckProblem, private to this room. Each reads the request, reports every violation and fills its part
// of the spec. A size that could not be learned stays 0, and what depends on it is skipped: no violation is reported
// for the consequences of another.
#ifndef HEADLIGHT_SERVER_PROBLEM_CHECKER_H_
#define HEADLIGHT_SERVER_PROBLEM_CHECKER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/base/errors.h"
#include "server/base/limits.h"
#include "server/base/tensor.h"
#include "server/problem/request.h"
#include "server/problem/spec.h"

namespace headlight {

struct Checker {
  const ProblemRequest& request;
  const Limits& limits;
  ProblemSpec& spec;
  Violations& violations;
  bool kind_known = false;  // spec.kind was set by the first tensor that carries numbers, or by seeded embeddings
  // Which keys of a whole were sent. The spec's key tokens are the whole's from CheckPart to KeepPart.
  std::optional<Range> part = {};

  // As CheckTensor.
  bool Tensor(absl::string_view field, const TensorForm& form, int least_rank, int most_rank);

  // Tensor() that carries numbers of the request's one kind; an absent one is reported as missing.
  bool Numbers(absl::string_view field, const std::optional<TensorForm>& form, int least_rank, int most_rank);

  // `value` in low..high, else a violation (of a limit where it is above `high`). `what` stands before the value that
  // was sent, where the field holds more than one: "batch ".
  bool InLimit(absl::string_view field, std::int64_t value, std::int64_t low, std::int64_t high,
               absl::string_view what = "");

  void Report(absl::string_view field, std::string got, std::string expected) {
    violations.Add(std::string(field), std::move(got), std::move(expected));
  }

  // |offset| < 2^31, so that sums of offsets and tokens cannot overflow.
  void Offset(absl::string_view field, std::int64_t offset);

  // A list of one number per token: T of them, or B x T.
  void PerToken(absl::string_view field, const std::vector<std::int64_t>& list, std::int64_t tokens);
};

// check_input.cc: tensors of the input, dims, kind, layout and projection.
void CheckInput(Checker& c);
// check_part.cc: whether a part of the keys was sent, what it may not ask for; then, positions and masks being known,
// what of these is the part's own.
void CheckPart(Checker& c);
void KeepPart(Checker& c);
// check_position.cc: the scheme, its parameters, where tokens stand; then, where one side has its positions one by one,
// the other's.
void CheckPosition(Checker& c);
void FillPositions(Checker& c);
// check_mask.cc.
void CheckMask(Checker& c);
// check_scores.cc: scale, softcap, sinks, head gains.
void CheckScores(Checker& c);
// check_outputs.cc: what comes back, and the labels.
void CheckOutputs(Checker& c);
void CheckTokens(Checker& c);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROBLEM_CHECKER_H_
