// The benchmarks, one function each. They check first and time what is right: a wrong answer is DATA_LOSS.
#ifndef HEADLIGHT_TESTS_BENCH_BENCH_H_
#define HEADLIGHT_TESTS_BENCH_BENCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/bench/report.h"
#include "tests/bench/shapes.h"

namespace headlight::bench {

struct Options {
  std::string shapes = "tests/bench";  // the folder of the files of shapes
  std::string only;                    // names of shapes, with commas between; empty: all
  std::string json;                    // where the report goes; empty: nowhere
  int threads = 1;
  int runs = 5;
};

// Attention by shape and precision, beside the processor's peak and oneDNN's product of one tile.
absl::Status RunKernels(const Options& options);

// What outputs beside the answer cost, for the wanted of these cases. Rows and goals go into the report of RunKernels.
absl::Status TimeMaps(const Options& options, const std::vector<Case>& cases, Report& report);

// Short calls alone and beside long ones, on one pool.
struct FairnessOptions {
  int calls = 300;  // short calls of each kind
  int beside = 1;   // long calls at a time
};
absl::Status RunFairness(const Options& options, const FairnessOptions& fairness);

// How long the units of many forms of calls are, and the beginnings of their phases.
absl::Status RunUnits(const Options& options);

// A layer with heads removed beside the whole one, checked against the whole one with these heads at zero.
absl::Status RunPrune(const Options& options);

// One point of how time and memory grow with T; prints it as one line of JSON.
struct PointOptions {
  std::int64_t tokens = 1024;
  bool naive = false;
  double seconds = 0.3;  // repeated for at least so long
};
absl::Status RunPoint(const Options& options, const PointOptions& point);

// Commands, one line of JSON each on standard input, are answered with one line each on standard output.
//   {"about": true}  ->  {"machine": ...}
//   {"name", "b", "hq", "hkv", "tq", "tk", "d", "dv", "causal", "kind", "threads", "runs", "input", "output"}
//   ->  {"best", "median", "seconds": [...], "flops", "workspace_bytes"}, or {"error": ...}
// input: a file of Q, K and V, [B, H, T, D] each, one behind the other; output (may be left out): where the answer
// goes.
absl::Status Serve();

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_BENCH_H_
