// A problem that is known to be sane: every size positive and within limits, every choice made, every index in range.
// Only CheckProblem makes one. Letters: B batch, Hq and Hkv query and key/value heads, Tq and Tk tokens, D head size,
// Dv value head size, E model width.
#ifndef HEADLIGHT_SERVER_PROBLEM_SPEC_H_
#define HEADLIGHT_SERVER_PROBLEM_SPEC_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/limits.h"
#include "server/base/tensor.h"
#include "server/problem/options.h"
#include "server/problem/request.h"

namespace headlight {

struct Dimensions {
  std::int64_t batch = 0;            // B
  std::int64_t query_heads = 0;      // Hq
  std::int64_t key_value_heads = 0;  // Hkv, divides Hq
  std::int64_t query_tokens = 0;     // Tq
  std::int64_t key_tokens = 0;       // Tk
  std::int64_t head_size = 0;        // D
  std::int64_t value_head_size = 0;  // Dv

  // The key/value head that a query head reads: heads are repeated interleaved.
  std::int64_t KeyValueHead(std::int64_t query_head) const { return query_head / (query_heads / key_value_heads); }
};

// Embeddings and a layer instead of Q, K, V.
struct ProjectionSpec {
  std::int64_t width = 0;          // E
  std::int64_t context_width = 0;  // Ec; E without a context
  std::int64_t output_width = 0;   // Eo; 0: the concatenation is the output
  bool has_context = false;
  bool seeded_embeddings = false;
  WeightsSource weights = WeightsSource::kExplicit;
  std::uint64_t embeddings_seed = 0;
  std::uint64_t weights_seed = 0;
};

struct PositionSpec {
  PositionKind kind = PositionKind::kNone;
  double base = 10000;
  ChannelLayout layout = ChannelLayout::kHalves;
  std::int64_t rotary_size = 0;  // even, 2..D
  std::vector<float> slopes;     // ALiBi: Hq of them
  std::int64_t query_offset = 0;
  std::int64_t key_offset = 0;
};

// A mask tensor, seen as [B, Hq, Tq, keys]: an axis of size 1 is repeated; keys beyond the last are forbidden.
struct MaskTensorSpec {
  TensorKind kind = TensorKind::kBool;
  std::array<std::int64_t, 4> shape{};
};

struct MaskSpec {
  std::optional<CausalAlignment> causal;
  std::vector<std::int64_t> causal_offsets;  // B of them where causal: row i sees keys j <= i + offset
  std::vector<std::int64_t> key_lengths;     // B of them, or empty
  std::optional<MaskTensorSpec> tensor;
};

// One WeightMaps of the request, with everything that was left out filled in.
struct MapSpec {
  std::vector<std::int64_t> heads, batches;  // ascending as given
  std::vector<Range> rows;
  Range keys;
  std::int64_t top_k = 0;  // 0: the full map
};

struct OutputSpec {
  bool output = true;
  bool log_sum_exp = false;
  bool head_outputs = false;
  std::vector<MapSpec> maps;
  TensorKind kind = TensorKind::kF32;
  std::int64_t max_response_bytes = 0;
};

class ProblemSpec {
 public:
  Dimensions dims;
  TensorKind kind = TensorKind::kF32;  // of the numbers that came in
  bool batched = true;                 // false: rank 2 came, rank 2 goes
  HeadLayout layout = HeadLayout::kTokenMajor;
  std::optional<ProjectionSpec> projection;
  PositionSpec position;
  MaskSpec mask;
  double scale = 0;
  std::optional<Algorithm> algorithm;  // absent: the planner's choice
  OutputSpec outputs;

  // Keys of batch b that exist: key_lengths[b], or Tk.
  std::int64_t KeyLength(std::int64_t b) const {
    return mask.key_lengths.empty() ? dims.key_tokens : mask.key_lengths[static_cast<std::size_t>(b)];
  }
  // The shape of `output`, as the answer carries it.
  Shape OutputShape() const;
  // The contract's name of what came in: "self_attention" or "query_key_value".
  absl::string_view InputField() const { return projection.has_value() ? "self_attention" : "query_key_value"; }

 private:
  ProblemSpec() = default;
  friend absl::StatusOr<ProblemSpec> CheckProblem(const ProblemRequest& request, const Limits& limits);
};

// The second stage of a call. Pure: no tensor data, no clock.
// Errors: UNIMPLEMENTED (fields of a later version, named), INVALID_ARGUMENT (every violation at once),
// NOT_FOUND (an unknown layer, where nothing else is wrong).
absl::StatusOr<ProblemSpec> CheckProblem(const ProblemRequest& request, const Limits& limits);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROBLEM_SPEC_H_
