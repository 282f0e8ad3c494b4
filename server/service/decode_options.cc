#include "absl/strings/str_cat.h"
#include "server/service/decode_fields.h"

namespace headlight {
namespace {

constexpr absl::string_view kLayouts = "HALVES or INTERLEAVED";

std::optional<ChannelLayout> DecodeLayout(ProblemRequest& request, absl::string_view field, int number) {
  switch (number) {
    case v1::CHANNEL_LAYOUT_HALVES: return ChannelLayout::kHalves;
    case v1::CHANNEL_LAYOUT_INTERLEAVED: return ChannelLayout::kInterleaved;
    default: ReportChoice(request, field, number, kLayouts); return std::nullopt;
  }
}

void DecodeScaling(const v1::RotaryPositions& message, RotaryScalingOptions& scaling) {
  switch (message.scaling_case()) {
    case v1::RotaryPositions::kLinear:
      scaling.kind = RotaryScaling::kLinear;
      scaling.factor = message.linear().factor();
      break;
    case v1::RotaryPositions::kNtkAware:
      scaling.kind = RotaryScaling::kNtkAware;
      scaling.factor = message.ntk_aware().factor();
      break;
    case v1::RotaryPositions::kLlama3:
      scaling.kind = RotaryScaling::kLlama3;
      scaling.factor = message.llama3().factor();
      scaling.low_frequency_factor = message.llama3().low_frequency_factor();
      scaling.high_frequency_factor = message.llama3().high_frequency_factor();
      scaling.original_context = message.llama3().original_context();
      break;
    case v1::RotaryPositions::kYarn:
      scaling.kind = RotaryScaling::kYarn;
      scaling.factor = message.yarn().factor();
      scaling.original_context = message.yarn().original_context();
      if (message.yarn().has_beta_fast()) scaling.beta_fast = message.yarn().beta_fast();
      if (message.yarn().has_beta_slow()) scaling.beta_slow = message.yarn().beta_slow();
      if (message.yarn().has_attention_factor()) scaling.attention_factor = message.yarn().attention_factor();
      break;
    case v1::RotaryPositions::SCALING_NOT_SET: break;
  }
}

void DecodeRotary(const v1::RotaryPositions& message, ProblemRequest& request) {
  PositionForm& position = request.position;
  position.kind = PositionKind::kRotary;
  if (message.has_base()) position.base = message.base();
  position.rotary_size = message.rotary_size();
  position.layout = DecodeLayout(request, "options.position.rotary.layout", message.layout());
  DecodeScaling(message, position.scaling);
}

void DecodePosition(const v1::PositionScheme& message, DecodedCall& call) {
  ProblemRequest& request = call.request;
  PositionForm& position = request.position;
  switch (message.scheme_case()) {
    case v1::PositionScheme::kSinusoidal:
      position.kind = PositionKind::kSinusoidal;
      if (message.sinusoidal().has_base()) position.base = message.sinusoidal().base();
      position.layout = DecodeLayout(request, "options.position.sinusoidal.layout", message.sinusoidal().layout());
      break;
    case v1::PositionScheme::kLearned:
      position.kind = PositionKind::kLearned;
      position.table = DecodeTensor(message.learned().has_table(), message.learned().table(), call.data.position_table);
      break;
    case v1::PositionScheme::kRotary: DecodeRotary(message.rotary(), request); break;
    case v1::PositionScheme::kAlibi:
      position.kind = PositionKind::kAlibi;
      position.slopes.assign(message.alibi().slopes().begin(), message.alibi().slopes().end());
      break;
    case v1::PositionScheme::kNone:
    case v1::PositionScheme::SCHEME_NOT_SET: break;
  }
  if (message.has_query_offset()) position.query_offset = message.query_offset();
  if (message.has_key_offset()) position.key_offset = message.key_offset();
  position.query_positions.assign(message.query_positions().begin(), message.query_positions().end());
  position.key_positions.assign(message.key_positions().begin(), message.key_positions().end());
}

// UNSPECIFIED and unknown numbers: nullopt.
std::optional<CausalAlignment> DecodeAlignment(int number) {
  switch (number) {
    case v1::CAUSAL_ALIGNMENT_TOP_LEFT: return CausalAlignment::kTopLeft;
    case v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT: return CausalAlignment::kBottomRight;
    case v1::CAUSAL_ALIGNMENT_EXPLICIT: return CausalAlignment::kExplicit;
    default: return std::nullopt;
  }
}

void DecodeWindow(const v1::WindowMask& message, ProblemRequest& request) {
  WindowForm& window = request.mask.window.emplace();
  if (message.has_left()) window.left = message.left();
  if (message.has_right()) window.right = message.right();
  window.alignment = DecodeAlignment(message.alignment());
  if (!window.alignment.has_value() && message.alignment() != v1::CAUSAL_ALIGNMENT_UNSPECIFIED) {
    ReportChoice(request, "options.mask.window.alignment", message.alignment(),
                 "UNSPECIFIED, TOP_LEFT, BOTTOM_RIGHT or EXPLICIT");
  }
  if (message.has_offset()) window.offset = message.offset();
}

void DecodeMask(const v1::Mask& message, DecodedCall& call) {
  ProblemRequest& request = call.request;
  if (message.has_causal()) {
    CausalForm& causal = request.mask.causal.emplace();
    causal.alignment = DecodeAlignment(message.causal().alignment());
    if (!causal.alignment.has_value()) {
      ReportChoice(request, "options.mask.causal.alignment", message.causal().alignment(),
                   "TOP_LEFT, BOTTOM_RIGHT or EXPLICIT: systems disagree");
    }
    if (message.causal().has_offset()) causal.offset = message.causal().offset();
  }
  if (message.has_window()) DecodeWindow(message.window(), request);
  if (message.has_segments()) {
    SegmentsForm& segments = request.mask.segments.emplace();
    segments.query_ids.assign(message.segments().query_ids().begin(), message.segments().query_ids().end());
    segments.key_ids.assign(message.segments().key_ids().begin(), message.segments().key_ids().end());
  }
  request.mask.tensor = DecodeTensor(message.has_tensor(), message.tensor(), call.data.mask);
  request.mask.key_lengths.assign(message.key_lengths().begin(), message.key_lengths().end());
}

void DecodeComputation(const v1::AttentionOptions& message, ProblemRequest& request) {
  switch (message.algorithm()) {
    case v1::ALGORITHM_UNSPECIFIED: break;
    case v1::ALGORITHM_NAIVE: request.algorithm = Algorithm::kNaive; break;
    case v1::ALGORITHM_FLASH: request.algorithm = Algorithm::kFlash; break;
    default: ReportChoice(request, "options.algorithm", message.algorithm(), "UNSPECIFIED, NAIVE or FLASH");
  }
  switch (message.precision()) {
    case v1::COMPUTE_PRECISION_UNSPECIFIED:
    case v1::COMPUTE_PRECISION_FLOAT32: break;
    case v1::COMPUTE_PRECISION_BFLOAT16: request.precision = ComputePrecision::kBFloat16; break;
    default: ReportChoice(request, "options.precision", message.precision(), "UNSPECIFIED, FLOAT32 or BFLOAT16");
  }
  if (message.has_softcap()) request.softcap = message.softcap();
  request.sinks.assign(message.sinks().begin(), message.sinks().end());
  request.head_gains.assign(message.head_gains().begin(), message.head_gains().end());
  request.allow_non_finite = message.allow_non_finite();
}

std::optional<TensorKind> DecodeKind(ProblemRequest& request, int number) {
  switch (number) {
    case v1::TENSOR_KIND_UNSPECIFIED: return std::nullopt;
    case v1::TENSOR_KIND_F32: return TensorKind::kF32;
    case v1::TENSOR_KIND_F16: return TensorKind::kF16;
    case v1::TENSOR_KIND_BF16: return TensorKind::kBF16;
    case v1::TENSOR_KIND_BOOL: return TensorKind::kBool;
    default: ReportChoice(request, "outputs.tensor_kind", number, "UNSPECIFIED, F32, F16 or BF16"); return std::nullopt;
  }
}

Range DecodeRange(const v1::RowRange& message) { return {message.begin(), message.end()}; }

PooledForm DecodePooled(const v1::PooledMap& message, const std::string& field, ProblemRequest& request) {
  PooledForm pooled{message.rows(), message.columns(), std::nullopt};
  switch (message.reducer()) {
    case v1::POOL_REDUCER_MAX: pooled.reducer = PoolReducer::kMax; break;
    case v1::POOL_REDUCER_MEAN: pooled.reducer = PoolReducer::kMean; break;
    case v1::POOL_REDUCER_SUM: pooled.reducer = PoolReducer::kSum; break;
    default: ReportChoice(request, field + ".pooled.reducer", message.reducer(), "MAX, MEAN or SUM");
  }
  return pooled;
}

MapForm DecodeMap(const v1::WeightMaps& message, const std::string& field, ProblemRequest& request) {
  MapForm map;
  map.heads.assign(message.heads().begin(), message.heads().end());
  map.batches.assign(message.batches().begin(), message.batches().end());
  for (const v1::RowRange& rows : message.rows()) map.rows.push_back(DecodeRange(rows));
  if (message.has_keys()) map.keys = DecodeRange(message.keys());
  switch (message.form_case()) {
    case v1::WeightMaps::kFull: break;
    case v1::WeightMaps::kTopKeys: map.top_k = message.top_keys().k(); break;
    case v1::WeightMaps::kPooled: map.pooled = DecodePooled(message.pooled(), field, request); break;
    case v1::WeightMaps::kColumnSums: map.column_sums = true; break;
    case v1::WeightMaps::FORM_NOT_SET:
      request.violations.Add(field + ".form", "nothing", "full, top_keys, pooled or column_sums");
  }
  switch (message.stage()) {
    case v1::MAP_STAGE_UNSPECIFIED:
    case v1::MAP_STAGE_WEIGHTS: break;
    case v1::MAP_STAGE_SCALED: map.stage = MapStage::kScaled; break;
    case v1::MAP_STAGE_SOFTCAPPED: map.stage = MapStage::kSoftcapped; break;
    case v1::MAP_STAGE_BIASED: map.stage = MapStage::kBiased; break;
    default: ReportChoice(request, field + ".stage", message.stage(), "WEIGHTS, SCALED, SOFTCAPPED or BIASED");
  }
  return map;
}

}  // namespace

void DecodeOptions(const v1::AttentionOptions& message, DecodedCall& call) {
  ProblemRequest& request = call.request;
  request.query_heads = message.query_heads();
  request.key_value_heads = message.key_value_heads();
  request.head_size = message.head_size();
  if (message.has_scale()) request.scale = message.scale();
  DecodePosition(message.position(), call);
  DecodeMask(message.mask(), call);
  DecodeComputation(message, request);
}

void DecodeOutputs(const v1::OutputSelection& message, ProblemRequest& request) {
  OutputsForm& outputs = request.outputs;
  outputs.omit_output = message.omit_output();
  outputs.log_sum_exp = message.log_sum_exp();
  outputs.head_outputs = message.head_outputs();
  outputs.max_response_bytes = message.max_response_bytes();
  outputs.kind = DecodeKind(request, message.tensor_kind());
  // More than a few are refused by the check: they need not be read.
  constexpr int kMostRead = 64;
  for (int i = 0; i < std::min(message.maps_size(), kMostRead); ++i) {
    outputs.maps.push_back(DecodeMap(message.maps(i), absl::StrCat("outputs.maps[", i, "]"), request));
  }
  outputs.head_statistics = message.head_statistics();
  outputs.verify_rows = message.verify_rows();
}

}  // namespace headlight
