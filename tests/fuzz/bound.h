// A decoded call as the oracle's problem, with copies of its data.
#ifndef HEADLIGHT_TESTS_FUZZ_BOUND_H_
#define HEADLIGHT_TESTS_FUZZ_BOUND_H_

#include <memory>

#include "server/problem/spec.h"
#include "server/service/decode.h"
#include "tests/support/oracle.h"

namespace headlight::fuzz {

// `spec` is what the check made of the call. What is seeded is made here.
std::unique_ptr<oracle::Bound> BoundOf(const DecodedCall& call, const ProblemSpec& spec);

// What decides how exact the answer can be.
struct Magnitudes {
  bool well_formed = true;  // all numbers are finite (-inf in a mask aside), booleans 0 or 1
  double angle = 0;         // no position is turned by more, in radians
  double product = 0;       // no sum on the way to Q K^T is larger
  double score = 0;         // nor one to a score, biases and sinks included
  double output = 0;        // nor one to an output
};
Magnitudes MagnitudesOf(const oracle::Bound& bound, const ProblemSpec& spec);

}  // namespace headlight::fuzz

#endif  // HEADLIGHT_TESTS_FUZZ_BOUND_H_
