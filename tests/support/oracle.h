// Problems for tests, an oracle that computes them in double from the definition, and a way to run the engine on them.
// The oracle shares the scalar reference kernels with the server and nothing else: masks and positions are its own.
#ifndef HEADLIGHT_TESTS_SUPPORT_ORACLE_H_
#define HEADLIGHT_TESTS_SUPPORT_ORACLE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/admission/compute_pool.h"
#include "server/analysis/maps.h"
#include "server/analysis/statistics.h"
#include "server/base/limits.h"
#include "server/engine/attention.h"
#include "server/problem/request.h"
#include "server/problem/spec.h"

namespace headlight::oracle {

// n numbers in [-sqrt 3, sqrt 3), variance 1: "unit scale".
std::vector<float> Numbers(std::uint64_t seed, std::int64_t n);

// A tensor of `kind` with these numbers, rounded.
OwnedTensor TensorOf(TensorKind kind, Shape shape, const std::vector<float>& numbers);

// What is asked. Sizes by semantics' letters. Change fields, then Bind.
struct Problem {
  std::int64_t b = 1, hq = 2, hkv = 2, tq = 17, tk = 17, d = 16, dv = 16;
  // Embeddings input: E, and with a context Ec; 0: Q, K, V input.
  std::int64_t e = 0, ec = 0;
  std::int64_t eo = 0;  // 0: no output matrix
  bool biases = false;
  int rank = 4;  // of Q, K, V
  TensorKind kind = TensorKind::kF32;
  std::optional<double> scale;
  PositionForm position;
  std::optional<CausalAlignment> causal;
  std::int64_t causal_offset = 0;  // with EXPLICIT
  std::optional<WindowForm> window;
  std::optional<SegmentsForm> segments;
  std::vector<std::int64_t> key_lengths;
  std::optional<double> softcap;
  std::vector<float> sinks, head_gains;
  ComputePrecision precision = ComputePrecision::kFloat32;
  bool allow_non_finite = false;
  std::optional<TensorKind> mask_kind;
  Shape mask_shape;
  std::vector<float> mask;  // as many as the shape says; booleans as 0 and 1
  OutputsForm outputs;
  std::uint64_t seed = 1;

  std::string Describe() const;
};

// A problem with its data. Move-only; `data` and `request` point into it.
struct Bound {
  Problem problem;
  ProblemRequest request;
  AttentionData data;
  // Owners of what `data` views; may be changed before a run.
  OwnedTensor query, key, value;
  OwnedTensor embeddings, context, table, mask;
  OwnedTensor wq, wk, wv, wo, bq, bk, bv, bo;

  Bound() = default;
  Bound(Bound&&) = delete;
};
std::unique_ptr<Bound> Bind(const Problem& problem);

// The exact answer. heads: [B, Hq, Tq, Dv]; weights, scores (after bias, -inf where forbidden) and raw scores (scaled,
// softcapped): [B, Hq, Tq, Tk]; output in the order of the answer's bytes.
struct Exact {
  std::vector<double> heads, weights, scores, scaled, softcapped, log_sum_exp, output;
};
Exact Solve(const Bound& bound);

// What the engine makes of it.
struct Ran {
  AttentionResult result;
  std::vector<std::vector<MapResult>> maps;
  std::vector<HeadStatistics> statistics;
  ExecutionRecord record;
  ExecutionPlan plan;
};
// `change` may spoil the plan before it runs.
using ChangePlan = std::function<void(ExecutionPlan&)>;
absl::StatusOr<std::unique_ptr<Ran>> RunEngine(const Bound& bound, Algorithm algorithm, int threads = 2,
                                               const ChangePlan& change = {});
// The same on a pool that others may use too, within these limits. Thread-safe.
absl::StatusOr<std::unique_ptr<Ran>> RunEngineOn(ComputePool& pool, const Bound& bound, Algorithm algorithm,
                                                 const Limits& limits = {}, const ChangePlan& change = {});
// The same by hand: `run` begins phases and runs units until the work ends, or returns its error.
using RunWork = std::function<absl::Status(Work&)>;
absl::StatusOr<std::unique_ptr<Ran>> RunEngineBy(const RunWork& run, const Bound& bound, Algorithm algorithm,
                                                 const Limits& limits = {}, const ChangePlan& change = {});

// Where tokens stand, by the definition.
std::int64_t QueryPosition(const Problem& problem, std::int64_t b, std::int64_t i);
std::int64_t KeyPosition(const Problem& problem, std::int64_t b, std::int64_t j);

// A tensor of any kind as floats.
std::vector<float> Floats(const OwnedTensor& tensor);

// |got - want| <= times (1e-5 + 5e-6 |want|), 1 for float32 of unit scale, with half an ulp more for the 16-bit kinds.
// Returns the worst offence in words, or nothing.
std::string Compare(const std::vector<float>& got, const std::vector<double>& want, TensorKind kind = TensorKind::kF32,
                    double times = 1);

}  // namespace headlight::oracle

#endif  // HEADLIGHT_TESTS_SUPPORT_ORACLE_H_
