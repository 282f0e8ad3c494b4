#include "server/service/encode.h"

#include <string>
#include <utility>

#include "server/kernels/cpu_target.h"

namespace headlight {
namespace {

v1::CausalAlignment EncodeAlignment(const std::optional<CausalAlignment>& alignment) {
  if (!alignment.has_value()) return v1::CAUSAL_ALIGNMENT_UNSPECIFIED;
  switch (*alignment) {
    case CausalAlignment::kTopLeft: return v1::CAUSAL_ALIGNMENT_TOP_LEFT;
    case CausalAlignment::kBottomRight: return v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT;
    case CausalAlignment::kExplicit: return v1::CAUSAL_ALIGNMENT_EXPLICIT;
  }
  return v1::CAUSAL_ALIGNMENT_UNSPECIFIED;
}

v1::MapStage EncodeStage(MapStage stage) {
  switch (stage) {
    case MapStage::kScaled: return v1::MAP_STAGE_SCALED;
    case MapStage::kSoftcapped: return v1::MAP_STAGE_SOFTCAPPED;
    case MapStage::kBiased: return v1::MAP_STAGE_BIASED;
    case MapStage::kWeights: return v1::MAP_STAGE_WEIGHTS;
  }
  return v1::MAP_STAGE_UNSPECIFIED;
}

v1::Algorithm EncodeAlgorithm(Algorithm algorithm) {
  return algorithm == Algorithm::kNaive ? v1::ALGORITHM_NAIVE : v1::ALGORITHM_FLASH;
}

void EncodeTopKeys(const TopKeys& top, v1::TopKeysResult* message) {
  for (std::size_t row = 0; row < top.counts.size(); ++row) {
    message->add_counts(top.counts[row]);
    const auto first = static_cast<std::ptrdiff_t>(row) * top.k;
    const auto end = first + static_cast<std::ptrdiff_t>(top.counts[row]);
    message->mutable_keys()->Add(top.keys.begin() + first, top.keys.begin() + end);
    message->mutable_weights()->Add(top.weights.begin() + first, top.weights.begin() + end);
  }
}

void EncodeDifference(const Difference& difference, v1::Difference* message) {
  message->set_max_abs_difference(difference.max_abs);
  message->set_mean_abs_difference(difference.mean_abs);
  message->mutable_index()->Add(difference.index.begin(), difference.index.end());
  message->set_rows_compared(static_cast<std::uint64_t>(difference.rows));
}

void EncodeConventions(const ProblemSpec& spec, v1::Execution* message) {
  message->set_precision(spec.precision == ComputePrecision::kBFloat16 ? v1::COMPUTE_PRECISION_BFLOAT16
                                                                       : v1::COMPUTE_PRECISION_FLOAT32);
  message->set_position_scheme(std::string(NameOf(spec.position.kind)));
  message->set_causal_alignment(EncodeAlignment(spec.mask.causal));
  if (spec.mask.window.has_value()) message->set_window_alignment(EncodeAlignment(spec.mask.window->alignment));
  message->set_scale(spec.scale);
  message->set_softcap(spec.softcap);
  message->set_softcap_order("before_bias");
  message->set_boolean_mask("true_attends");
  message->set_non_finite(spec.allow_non_finite ? "ieee" : "refused");
}

v1::AdmissionForecast EncodeForecast(const Quote& quote) {
  constexpr double kNoticed = 0.01;  // seconds of waiting
  if (quote.decision != Decision::kAdmitted) return v1::ADMISSION_FORECAST_REFUSED;
  return quote.wait_seconds < kNoticed ? v1::ADMISSION_FORECAST_ADMITTED : v1::ADMISSION_FORECAST_QUEUED;
}

template <typename Message>
void EncodeHeads(const Dimensions& dims, Message* message) {
  message->set_query_heads(static_cast<std::uint32_t>(dims.query_heads));
  message->set_key_value_heads(static_cast<std::uint32_t>(dims.key_value_heads));
  message->set_head_size(static_cast<std::uint32_t>(dims.head_size));
  message->set_value_head_size(static_cast<std::uint32_t>(dims.value_head_size));
}

}  // namespace

v1::TensorKind EncodeKind(TensorKind kind) {
  switch (kind) {
    case TensorKind::kF32: return v1::TENSOR_KIND_F32;
    case TensorKind::kF16: return v1::TENSOR_KIND_F16;
    case TensorKind::kBF16: return v1::TENSOR_KIND_BF16;
    case TensorKind::kBool: return v1::TENSOR_KIND_BOOL;
  }
  return v1::TENSOR_KIND_UNSPECIFIED;
}

void EncodeTensor(OwnedTensor&& tensor, v1::Tensor* message) {
  message->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  switch (tensor.kind) {
    case TensorKind::kF32: message->set_f32_le(std::move(tensor.bytes)); break;
    case TensorKind::kF16: message->set_f16_le(std::move(tensor.bytes)); break;
    case TensorKind::kBF16: message->set_bf16_le(std::move(tensor.bytes)); break;
    case TensorKind::kBool: message->set_bool_u8(std::move(tensor.bytes)); break;
  }
}

void EncodeSeconds(double seconds, google::protobuf::Duration* message) {
  const auto nanos = static_cast<std::int64_t>(seconds * 1e9);
  message->set_seconds(nanos / 1'000'000'000);
  message->set_nanos(static_cast<std::int32_t>(nanos % 1'000'000'000));
}

void EncodeMap(MapResult&& map, v1::WeightMap* message) {
  message->set_request_index(static_cast<std::uint32_t>(map.request_index));
  message->set_batch(static_cast<std::uint32_t>(map.batch));
  message->set_head(static_cast<std::uint32_t>(map.head));
  message->set_stage(EncodeStage(map.stage));
  message->set_row_begin(map.rows.begin);
  message->set_row_end(map.rows.end);
  message->set_key_begin(map.key_begin);
  if (map.top_keys.k > 0) {
    EncodeTopKeys(map.top_keys, message->mutable_top_keys());
  } else {
    EncodeTensor(std::move(map.weights), message->mutable_weights());
  }
}

void EncodeExecution(const ExecutionPlan& plan, const ExecutionRecord& record, v1::Execution* message) {
  const ProblemSpec& spec = plan.spec;
  message->set_algorithm(EncodeAlgorithm(plan.algorithm));
  message->set_algorithm_reason(std::string(plan.reason));
  message->set_cpu_target(std::string(NameOf(ActiveCpuTarget())));
  EncodeConventions(spec, message);
  EncodeHeads(spec.dims, message);
  message->set_tile_query_rows(static_cast<std::uint32_t>(plan.tile.query_rows));
  message->set_tile_keys(static_cast<std::uint32_t>(plan.tile.keys));
  message->set_workers(static_cast<std::uint32_t>(record.workers));
  EncodeSeconds(record.times[Stage::kQueue], message->mutable_queue());
  EncodeSeconds(record.times[Stage::kProject], message->mutable_project());
  EncodeSeconds(record.times[Stage::kAttend], message->mutable_attend());
  EncodeSeconds(record.times[Stage::kMaps], message->mutable_maps());
  EncodeSeconds(record.total_seconds, message->mutable_total());
  message->set_flops(static_cast<std::uint64_t>(plan.flops));
  message->set_scratch_bytes(static_cast<std::uint64_t>(record.scratch_bytes));
  message->set_packed_bytes(static_cast<std::uint64_t>(record.packed_bytes));
  message->set_projection_bytes(static_cast<std::uint64_t>(record.projection_bytes));
  message->set_workspace_bytes(static_cast<std::uint64_t>(record.workspace_bytes));
  message->set_score_grid_bytes(static_cast<std::uint64_t>(plan.score_grid_bytes));
}

void EncodeAttend(AttentionWork& work, std::vector<std::unique_ptr<MapSink>>& sinks, v1::AttendResponse* message) {
  AttentionResult result = work.TakeResult();
  if (!result.output.empty()) EncodeTensor(std::move(result.output), message->mutable_output());
  if (!result.log_sum_exp.empty()) EncodeTensor(std::move(result.log_sum_exp), message->mutable_log_sum_exp());
  if (!result.head_outputs.empty()) EncodeTensor(std::move(result.head_outputs), message->mutable_head_outputs());
  for (const std::unique_ptr<MapSink>& sink : sinks) {
    for (MapResult& map : sink->TakeResults()) EncodeMap(std::move(map), message->add_maps());
  }
}

void EncodeStatistics(const std::vector<HeadStatistics>& statistics,
                      google::protobuf::RepeatedPtrField<v1::HeadStatistics>* messages) {
  for (const HeadStatistics& head : statistics) {
    v1::HeadStatistics* out = messages->Add();
    out->set_batch(static_cast<std::uint32_t>(head.batch));
    out->set_head(static_cast<std::uint32_t>(head.head));
    out->set_mean_entropy(head.mean_entropy);
    out->set_mean_largest_weight(head.mean_largest_weight);
    out->set_mean_distance(head.mean_distance);
    out->set_share_on_previous(head.share_on_previous);
    out->set_share_on_same(head.share_on_same);
    out->set_share_on_first(head.share_on_first);
    out->set_largest_score(head.largest_score);
  }
}

void EncodeVerification(std::int64_t rows, const Difference& difference, v1::Verification* message) {
  message->set_rows(static_cast<std::uint32_t>(rows));
  message->set_max_abs_error(difference.max_abs);
}

void EncodeExceeded(const std::vector<Violation>& exceeded, v1::PlanAttentionResponse* message) {
  if (!exceeded.empty()) message->set_admission(v1::ADMISSION_FORECAST_REFUSED);
  for (const Violation& violation : exceeded) {
    v1::PlanViolation* out = message->add_violations();
    out->set_field(violation.field);
    out->set_got(violation.got);
    out->set_expected(violation.expected);
  }
}

void EncodePlan(const PlannedCall& planned, int workers, v1::PlanAttentionResponse* message) {
  const ExecutionPlan& plan = planned.plan;
  message->set_algorithm(EncodeAlgorithm(plan.algorithm));
  message->set_reason(std::string(plan.reason));
  message->set_flops(static_cast<std::uint64_t>(plan.flops));
  message->set_projection_flops(static_cast<std::uint64_t>(ProjectionFlops(plan.spec)));
  message->set_naive_bytes(static_cast<std::uint64_t>(planned.naive.WorkspaceTotal(workers)));
  message->set_flash_bytes(static_cast<std::uint64_t>(planned.flash.WorkspaceTotal(workers)));
  message->set_score_grid_bytes(static_cast<std::uint64_t>(plan.score_grid_bytes));
  message->set_response_bytes(static_cast<std::uint64_t>(plan.response_bytes));
  EncodeHeads(plan.spec.dims, message);
  message->set_admission(EncodeForecast(planned.quote));
  EncodeSeconds(planned.quote.wait_seconds + planned.quote.compute_seconds, message->mutable_predicted());
  EncodeExceeded(planned.exceeded, message);
}

void EncodeCompare(const ExecutionPlan& naive, const ExecutionPlan& flash, const CompareWork& work,
                   v1::CompareAlgorithmsResponse* message) {
  EncodeExecution(naive, work.naive(), message->mutable_naive());
  EncodeExecution(flash, work.flash(), message->mutable_flash());
  const ReferenceRecord reference = work.reference();
  message->mutable_reference()->set_rows(static_cast<std::uint64_t>(reference.rows));
  message->mutable_reference()->set_rows_total(static_cast<std::uint64_t>(reference.rows_total));
  EncodeSeconds(reference.seconds, message->mutable_reference()->mutable_total());
  message->mutable_reference()->set_workspace_bytes(static_cast<std::uint64_t>(reference.workspace_bytes));
  message->mutable_reference()->set_flops(static_cast<std::uint64_t>(reference.flops));
  EncodeDifference(work.naive_flash(), message->mutable_naive_flash());
  EncodeDifference(work.naive_reference(), message->mutable_naive_reference());
  EncodeDifference(work.flash_reference(), message->mutable_flash_reference());
}

}  // namespace headlight
