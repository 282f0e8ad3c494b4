// Whether an answer is right, before anything is timed: a wrong answer's time is no result.
#ifndef HEADLIGHT_TESTS_BENCH_CHECK_H_
#define HEADLIGHT_TESTS_BENCH_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/oracle.h"

namespace headlight::bench {

// One row of one head in double, from the definition.
struct ExactRow {
  std::int64_t batch = 0, head = 0, row = 0;
  std::vector<double> weights;  // Tk
  std::vector<double> output;   // Dv
};

// Evenly spread rows of each head, the first and the last among them. REQUIRES: Q, K, V input of rank 4 with no mask
// but a causal one, aligned bottom right.
std::vector<ExactRow> SomeRows(const oracle::Bound& bound, std::int64_t rows_per_head);

// How far from the exact answer a number may be: float32's rounding, or what bfloat16 loses in Q, K, V, P and the
// output.
double Tolerance(TensorKind kind, double want);

// The first element that is further off than that, in words, or nothing.
std::string CheckRows(const std::vector<ExactRow>& rows, const oracle::Bound& bound, const OwnedTensor& output);

// Flash's answer beside some rows in double, and beside all of naive's where its grid takes at most a gibibyte.
std::string CheckFlash(ComputePool& pool, const oracle::Bound& bound, const OwnedTensor& output);

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_CHECK_H_
