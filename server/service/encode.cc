#include "server/service/encode.h"

#include <string>
#include <utility>

#include "server/kernels/cpu_target.h"

namespace headlight {
namespace {

void SetSeconds(double seconds, google::protobuf::Duration* duration) {
  const auto nanos = static_cast<std::int64_t>(seconds * 1e9);
  duration->set_seconds(nanos / 1'000'000'000);
  duration->set_nanos(static_cast<std::int32_t>(nanos % 1'000'000'000));
}

v1::CausalAlignment EncodeAlignment(const MaskSpec& mask) {
  if (!mask.causal.has_value()) return v1::CAUSAL_ALIGNMENT_UNSPECIFIED;
  switch (*mask.causal) {
    case CausalAlignment::kTopLeft: return v1::CAUSAL_ALIGNMENT_TOP_LEFT;
    case CausalAlignment::kBottomRight: return v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT;
    case CausalAlignment::kExplicit: return v1::CAUSAL_ALIGNMENT_EXPLICIT;
  }
  return v1::CAUSAL_ALIGNMENT_UNSPECIFIED;
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

void EncodeMap(MapResult&& map, v1::WeightMap* message) {
  message->set_request_index(static_cast<std::uint32_t>(map.request_index));
  message->set_batch(static_cast<std::uint32_t>(map.batch));
  message->set_head(static_cast<std::uint32_t>(map.head));
  message->set_stage(v1::MAP_STAGE_WEIGHTS);
  message->set_row_begin(map.rows.begin);
  message->set_row_end(map.rows.end);
  message->set_key_begin(map.key_begin);
  if (map.top_keys.k > 0) {
    EncodeTopKeys(map.top_keys, message->mutable_top_keys());
  } else {
    EncodeTensor(std::move(map.weights), message->mutable_weights());
  }
}

void EncodeDifference(const Difference& difference, v1::Difference* message) {
  message->set_max_abs_difference(difference.max_abs);
  message->set_mean_abs_difference(difference.mean_abs);
  message->mutable_index()->Add(difference.index.begin(), difference.index.end());
  message->set_rows_compared(static_cast<std::uint64_t>(difference.rows));
}

}  // namespace

void EncodeTensor(OwnedTensor&& tensor, v1::Tensor* message) {
  message->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  switch (tensor.kind) {
    case TensorKind::kF32: message->set_f32_le(std::move(tensor.bytes)); break;
    case TensorKind::kF16: message->set_f16_le(std::move(tensor.bytes)); break;
    case TensorKind::kBF16: message->set_bf16_le(std::move(tensor.bytes)); break;
    case TensorKind::kBool: message->set_bool_u8(std::move(tensor.bytes)); break;
  }
}

void EncodeExecution(const ExecutionPlan& plan, const ExecutionRecord& record, v1::Execution* message) {
  const ProblemSpec& spec = plan.spec;
  message->set_algorithm(plan.algorithm == Algorithm::kNaive ? v1::ALGORITHM_NAIVE : v1::ALGORITHM_FLASH);
  message->set_algorithm_reason(std::string(plan.reason));
  message->set_cpu_target(std::string(NameOf(ActiveCpuTarget())));
  message->set_precision(v1::COMPUTE_PRECISION_FLOAT32);
  message->set_position_scheme(std::string(NameOf(spec.position.kind)));
  message->set_causal_alignment(EncodeAlignment(spec.mask));
  message->set_scale(spec.scale);
  message->set_query_heads(static_cast<std::uint32_t>(spec.dims.query_heads));
  message->set_key_value_heads(static_cast<std::uint32_t>(spec.dims.key_value_heads));
  message->set_head_size(static_cast<std::uint32_t>(spec.dims.head_size));
  message->set_value_head_size(static_cast<std::uint32_t>(spec.dims.value_head_size));
  message->set_tile_query_rows(static_cast<std::uint32_t>(plan.tile.query_rows));
  message->set_tile_keys(static_cast<std::uint32_t>(plan.tile.keys));
  message->set_workers(static_cast<std::uint32_t>(record.workers));
  SetSeconds(record.times[Stage::kQueue], message->mutable_queue());
  SetSeconds(record.times[Stage::kProject], message->mutable_project());
  SetSeconds(record.times[Stage::kAttend], message->mutable_attend());
  SetSeconds(record.times[Stage::kMaps], message->mutable_maps());
  SetSeconds(record.total_seconds, message->mutable_total());
  message->set_flops(static_cast<std::uint64_t>(plan.flops));
  message->set_scratch_bytes(static_cast<std::uint64_t>(record.scratch_bytes));
  message->set_packed_bytes(static_cast<std::uint64_t>(record.packed_bytes));
  message->set_projection_bytes(static_cast<std::uint64_t>(record.projection_bytes));
  message->set_workspace_bytes(static_cast<std::uint64_t>(record.workspace_bytes));
  message->set_score_grid_bytes(static_cast<std::uint64_t>(plan.score_grid_bytes));
}

void EncodeAttend(const ExecutionPlan& plan, AttentionWork& work, std::vector<std::unique_ptr<MapSink>>& sinks,
                  v1::AttendResponse* message) {
  AttentionResult result = work.TakeResult();
  if (!result.output.empty()) EncodeTensor(std::move(result.output), message->mutable_output());
  if (!result.log_sum_exp.empty()) EncodeTensor(std::move(result.log_sum_exp), message->mutable_log_sum_exp());
  if (!result.head_outputs.empty()) EncodeTensor(std::move(result.head_outputs), message->mutable_head_outputs());
  for (const std::unique_ptr<MapSink>& sink : sinks) {
    for (MapResult& map : sink->TakeResults()) EncodeMap(std::move(map), message->add_maps());
  }
  EncodeExecution(plan, work.Record(), message->mutable_execution());
}

void EncodeCompare(const ExecutionPlan& naive, const ExecutionPlan& flash, const CompareWork& work,
                   v1::CompareAlgorithmsResponse* message) {
  EncodeExecution(naive, work.naive(), message->mutable_naive());
  EncodeExecution(flash, work.flash(), message->mutable_flash());
  const ReferenceRecord reference = work.reference();
  message->mutable_reference()->set_rows(static_cast<std::uint64_t>(reference.rows));
  message->mutable_reference()->set_rows_total(static_cast<std::uint64_t>(reference.rows_total));
  SetSeconds(reference.seconds, message->mutable_reference()->mutable_total());
  message->mutable_reference()->set_workspace_bytes(static_cast<std::uint64_t>(reference.workspace_bytes));
  message->mutable_reference()->set_flops(static_cast<std::uint64_t>(reference.flops));
  EncodeDifference(work.naive_flash(), message->mutable_naive_flash());
  EncodeDifference(work.naive_reference(), message->mutable_naive_reference());
  EncodeDifference(work.flash_reference(), message->mutable_flash_reference());
}

}  // namespace headlight
