// A problem that is known to be sane: every size positive and within limits, every choice made, every index in range.
// Only CheckProblem makes one. Letters: B batch, Hq and Hkv query and key/value heads, Tq and Tk tokens, D head size,
// Dv value head size, E model width.
#ifndef HEADLIGHT_SERVER_PROBLEM_SPEC_H_
#define HEADLIGHT_SERVER_PROBLEM_SPEC_H_

#include <array>
#include <cstdint>
#include <memory>
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
  RotaryScalingOptions scaling;
  std::vector<float> slopes;  // ALiBi: Hq of them
  std::int64_t query_offset = 0;
  std::int64_t key_offset = 0;
  // Where one side is given one by one, both are: T of them, or B x T. Else both are empty, and the offsets count.
  std::vector<std::int64_t> query_positions, key_positions;

  // The position of query i (of `tokens`) of batch b; likewise of key j.
  std::int64_t QueryAt(std::int64_t b, std::int64_t i, std::int64_t tokens) const {
    return query_positions.empty() ? query_offset + i : query_positions[Place(query_positions, b, i, tokens)];
  }
  std::int64_t KeyAt(std::int64_t b, std::int64_t j, std::int64_t tokens) const {
    return key_positions.empty() ? key_offset + j : key_positions[Place(key_positions, b, j, tokens)];
  }
  // Where (b, t) is in a list of T or B x T.
  static std::size_t Place(const std::vector<std::int64_t>& list, std::int64_t b, std::int64_t t, std::int64_t tokens) {
    return static_cast<std::size_t>(static_cast<std::int64_t>(list.size()) > tokens ? b * tokens + t : t);
  }
};

// A mask tensor, seen as [B, Hq, Tq, keys]: an axis of size 1 is repeated; keys beyond the last are forbidden. The
// problem's key 0 is at `first_key` of it.
struct MaskTensorSpec {
  TensorKind kind = TensorKind::kBool;
  std::array<std::int64_t, 4> shape{};
  std::int64_t first_key = 0;
};

// Keys p - left .. p + right of a row at p = i + offset; an unset side is unbounded.
struct WindowSpec {
  std::optional<std::int64_t> left, right;
  CausalAlignment alignment = CausalAlignment::kTopLeft;
};

// Only equal ids attend. T ids for all batches, or B x T.
struct SegmentsSpec {
  std::vector<std::int64_t> query_ids, key_ids;
};

struct MaskSpec {
  std::optional<CausalAlignment> causal;
  std::optional<WindowSpec> window;
  std::vector<std::int64_t> offsets;      // B of them where causal or window: row i stands at key i + offset
  std::vector<std::int64_t> key_lengths;  // B of them, or empty
  std::shared_ptr<const SegmentsSpec> segments;
  std::optional<MaskTensorSpec> tensor;
};

// Cell r of n rows covers rows floor(r n / rows) up to floor((r + 1) n / rows); columns likewise.
struct PooledSpec {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  PoolReducer reducer = PoolReducer::kMean;
};

// One WeightMaps of the request, with everything that was left out filled in.
struct MapSpec {
  std::vector<std::int64_t> heads, batches;  // ascending as given
  std::vector<Range> rows;
  Range keys;
  // At most one of the three; none: the full map.
  std::int64_t top_k = 0;
  std::optional<PooledSpec> pooled;
  bool column_sums = false;
  MapStage stage = MapStage::kWeights;

  // Made from all rows' final weights or from raw scores, and so after attention.
  bool IsSweep() const { return pooled.has_value() || column_sums || IsRaw(stage); }
};

struct OutputSpec {
  bool output = true;
  bool log_sum_exp = false;
  bool head_outputs = false;
  bool head_statistics = false;
  std::int64_t verify_rows = 0;
  std::vector<MapSpec> maps;
  TensorKind kind = TensorKind::kF32;
  std::int64_t max_response_bytes = 0;

  // Some map shows scores before masks: keys beyond the key lengths too.
  bool ShowsRawScores() const;
  // Some map is made from weights after attention.
  bool SweepsWeights() const;
};

class ProblemSpec {
 public:
  // Of a part of the keys, everything here is that part's own: of masks and positions nothing else is left.
  Dimensions dims;
  TensorKind kind = TensorKind::kF32;  // of the numbers that came in
  bool batched = true;                 // false: rank 2 came, rank 2 goes
  HeadLayout layout = HeadLayout::kTokenMajor;
  std::optional<ProjectionSpec> projection;
  PositionSpec position;
  MaskSpec mask;
  double scale = 0;
  double softcap = 0;                    // 0: none
  std::vector<float> sinks, head_gains;  // Hq of them, or empty
  ComputePrecision precision = ComputePrecision::kFloat32;
  bool allow_non_finite = false;
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
// Errors: INVALID_ARGUMENT (every violation at once),
// NOT_FOUND (an unknown layer, where nothing else is wrong).
absl::StatusOr<ProblemSpec> CheckProblem(const ProblemRequest& request, const Limits& limits);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROBLEM_SPEC_H_
