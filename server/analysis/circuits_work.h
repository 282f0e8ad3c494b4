// Circuits of heads as work for the pool: of a layer's heads, and how they feed those of a later layer.
#ifndef HEADLIGHT_SERVER_ANALYSIS_CIRCUITS_WORK_H_
#define HEADLIGHT_SERVER_ANALYSIS_CIRCUITS_WORK_H_

#include <complex>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "server/base/memory.h"
#include "server/base/tensor.h"
#include "server/engine/phased_work.h"

namespace headlight {

// A layer's matrices and how many heads are in them. The matrices are of float32, finite, and of shapes that fit.
struct CircuitLayer {
  LayerViews matrices;
  std::int64_t query_heads = 0;      // Hq
  std::int64_t key_value_heads = 0;  // Hkv, divides Hq

  bool has_output() const { return !matrices.output.empty(); }
  std::int64_t head_size() const { return matrices.query.shape[1] / query_heads; }            // D
  std::int64_t value_head_size() const { return matrices.value.shape[1] / key_value_heads; }  // Dv
  std::int64_t width() const { return matrices.query.shape[0]; }                              // E
  std::int64_t context_width() const { return matrices.key.shape[0]; }                        // Ec
  // Eo; without an output matrix the concatenation's.
  std::int64_t output_width() const {
    return has_output() ? matrices.output.shape[1] : query_heads * value_head_size();
  }
  std::int64_t KeyValueHead(std::int64_t head) const { return head / (query_heads / key_value_heads); }
};

// Everything is in range.
struct CircuitsProblem {
  CircuitLayer layer;
  std::optional<CircuitLayer> later;  // reads what the layer writes: E and Ec are the layer's output width
  std::vector<std::int64_t> heads;    // ascending
  std::int64_t directions = 0;
  TensorView queries, keys;  // [N, E] and [M, Ec] of float32, or both empty
};

// What it takes, beyond the problem itself.
struct CircuitsCost {
  std::int64_t flops = 0;           // in double
  std::int64_t bytes_per_lane = 0;  // at their peak
  std::int64_t bytes = 0;           // triangles that stay for compositions
  std::int64_t response_bytes = 0;
};
CircuitsCost CostOf(const CircuitsProblem& problem);

// As in the contract's Circuit.
struct CircuitResult {
  std::vector<double> singular_values;
  double frobenius_norm = 0;
  OwnedTensor left, right;  // empty without directions
};

// As in the contract's HeadCircuits.
struct HeadCircuitsResult {
  std::int64_t head = 0;
  CircuitResult query_key, output_value;
  std::vector<std::complex<double>> eigenvalues;
  double copying_score = 0;
  OwnedTensor scores;
};

// As in the contract's Composition.
struct CompositionResult {
  std::int64_t head = 0;
  std::int64_t later_head = 0;
  double query = 0;
  double key = 0;
  double value = 0;
};

// Draws that the random baseline is the mean of.
inline constexpr std::int64_t kBaselineDraws = 32;

// A task is a head, a pair of heads, or a draw of the baseline. Steps are of about a millisecond but for one SVD and
// one eigenvalue decomposition of a head's core (circuits.h), and making room. Fails with INVALID_ARGUMENT where
// queries or keys hold NaN or infinity.
class CircuitsWork final : public PhasedWork {
 public:
  // The problem and the account outlive it.
  CircuitsWork(const CircuitsProblem& problem, MemoryAccount& account);
  ~CircuitsWork() override;

  // After the work ended well. By head; by head, then later head.
  std::vector<HeadCircuitsResult>& heads() { return heads_; }
  const std::vector<CompositionResult>& compositions() const { return compositions_; }
  const CompositionResult& baseline() const { return baseline_; }

 private:
  class Values;
  class Heads;
  class Pairs;
  class Baseline;
  struct Triangles;

  void Build() override;

  const CircuitsProblem& problem_;
  std::vector<HeadCircuitsResult> heads_;
  std::vector<CompositionResult> compositions_;
  CompositionResult baseline_;
  std::vector<Triangles> triangles_, later_triangles_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_CIRCUITS_WORK_H_
