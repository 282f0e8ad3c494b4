// What a caller asks for, before anything is known to be right: forms of tensors and options, never tensor data.
#ifndef HEADLIGHT_SERVER_PROBLEM_REQUEST_H_
#define HEADLIGHT_SERVER_PROBLEM_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "server/base/errors.h"
#include "server/base/tensor.h"
#include "server/problem/options.h"

namespace headlight {

// Forms of a layer's matrices; shapes as in the contract's LayerWeights.
struct LayerForm {
  std::optional<TensorForm> query, key, value, output;
  std::optional<TensorForm> query_bias, key_bias, value_bias, output_bias;
  // Known for named layers; 0: the options say.
  std::int64_t query_heads = 0;
  std::int64_t key_value_heads = 0;
};

// An absent embeddings form means seeded ones of the given size.
struct SelfAttentionForm {
  std::optional<TensorForm> embeddings;
  std::uint64_t embeddings_seed = 0;
  std::int64_t seeded_tokens = 0;
  std::int64_t seeded_width = 0;
  std::optional<TensorForm> context;
  WeightsSource weights = WeightsSource::kExplicit;
  std::optional<LayerForm> layer;  // absent for seeded weights and for a name that is not known
  std::string layer_name;
  std::uint64_t weights_seed = 0;
};

// Keys begin .. end - 1 of a whole of `total`.
struct PartForm {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t total = 0;
};

struct QueryKeyValueForm {
  std::optional<TensorForm> query, key, value;
  std::optional<PartForm> part = {};
};

struct CausalForm {
  std::optional<CausalAlignment> alignment;  // absent: already reported
  std::optional<std::int64_t> offset;
};

struct WindowForm {
  std::optional<std::int64_t> left, right;
  std::optional<CausalAlignment> alignment;  // absent: not given
  std::optional<std::int64_t> offset;
};

struct SegmentsForm {
  std::vector<std::int64_t> query_ids, key_ids;
};

struct MaskForm {
  std::optional<CausalForm> causal;
  std::optional<WindowForm> window;
  std::optional<SegmentsForm> segments;
  std::optional<TensorForm> tensor;
  std::vector<std::int64_t> key_lengths;
};

struct PositionForm {
  PositionKind kind = PositionKind::kNone;
  std::optional<double> base;
  std::optional<ChannelLayout> layout;  // absent where required: already reported
  std::optional<TensorForm> table;
  std::int64_t rotary_size = 0;
  RotaryScalingOptions scaling;
  std::vector<float> slopes;
  std::optional<std::int64_t> query_offset, key_offset;
  std::vector<std::int64_t> query_positions, key_positions;  // instead of the offsets; empty: not given
};

struct PooledForm {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::optional<PoolReducer> reducer;  // absent: already reported
};

struct MapForm {
  std::vector<std::int64_t> heads, batches;
  std::vector<Range> rows;
  std::optional<Range> keys;
  // At most one of the three; none: the full map.
  std::optional<std::int64_t> top_k;
  std::optional<PooledForm> pooled = {};
  bool column_sums = false;
  MapStage stage = MapStage::kWeights;
};

struct OutputsForm {
  bool omit_output = false;
  bool log_sum_exp = false;
  bool head_outputs = false;
  bool head_statistics = false;
  std::int64_t verify_rows = 0;
  std::vector<MapForm> maps;
  std::optional<TensorKind> kind;
  std::uint64_t max_response_bytes = 0;
};

// What the decoder found, with the violations that only it could see (unknown enum numbers, missing oneofs).
struct ProblemRequest {
  std::variant<std::monostate, SelfAttentionForm, QueryKeyValueForm> input;  // monostate: already reported
  std::int64_t query_heads = 0;
  std::int64_t key_value_heads = 0;
  std::int64_t head_size = 0;
  PositionForm position;
  MaskForm mask;
  std::optional<double> scale, softcap;
  std::vector<float> sinks, head_gains;  // per query head; empty: not given
  std::optional<Algorithm> algorithm;
  ComputePrecision precision = ComputePrecision::kFloat32;
  bool allow_non_finite = false;
  OutputsForm outputs;
  std::vector<std::string> tokens;
  Violations violations;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROBLEM_REQUEST_H_
