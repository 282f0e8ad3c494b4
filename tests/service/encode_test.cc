#include "server/service/encode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "server/kernels/cpu_target.h"
#include "server/service/decode.h"

namespace headlight {
namespace {

using testing::ElementsAre;

// B 2, Hq 4, Hkv 2, Tq 3, Tk 5, D 6, Dv 7.
v1::AttendRequest SmallRequest() {
  v1::AttendRequest message;
  const auto fill = [](v1::Tensor* tensor, std::initializer_list<std::int64_t> shape) {
    std::size_t count = sizeof(float);
    for (const std::int64_t size : shape) {
      tensor->add_shape(size);
      count *= static_cast<std::size_t>(size);
    }
    tensor->set_f32_le(std::string(count, '\0'));
  };
  fill(message.mutable_query_key_value()->mutable_query(), {2, 4, 3, 6});
  fill(message.mutable_query_key_value()->mutable_key(), {2, 2, 5, 6});
  fill(message.mutable_query_key_value()->mutable_value(), {2, 2, 5, 7});
  return message;
}

ExecutionPlan PlanOf(const v1::AttendRequest& message) {
  const Limits limits;
  absl::StatusOr<ProblemSpec> spec = CheckProblem(Decode(message, LayerStore()).request, limits);
  EXPECT_TRUE(spec.ok()) << spec.status();
  absl::StatusOr<ExecutionPlan> plan = MakePlan(*std::move(spec), limits, {MultipliesBF16(), GainsFromPacking()});
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

v1::Execution ExecutionOf(const v1::AttendRequest& message, const ExecutionRecord& record = {}) {
  v1::Execution execution;
  EncodeExecution(PlanOf(message), record, &execution);
  return execution;
}

TEST(EncodeTensor, EveryKindKeepsShapeAndBytes) {
  for (const TensorKind kind : {TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16, TensorKind::kBool}) {
    OwnedTensor tensor = MakeTensor(kind, {2, 3});
    for (std::size_t i = 0; i < tensor.bytes.size(); ++i) tensor.bytes[i] = static_cast<char>(i);
    const std::string bytes = tensor.bytes;
    v1::Tensor message;
    EncodeTensor(std::move(tensor), &message);
    EXPECT_THAT(message.shape(), ElementsAre(2, 3));
    switch (kind) {
      case TensorKind::kF32: EXPECT_EQ(message.f32_le(), bytes); break;
      case TensorKind::kF16: EXPECT_EQ(message.f16_le(), bytes); break;
      case TensorKind::kBF16: EXPECT_EQ(message.bf16_le(), bytes); break;
      case TensorKind::kBool: EXPECT_EQ(message.bool_u8(), bytes); break;
    }
  }
}

TEST(EncodeTensor, MovesItsBytes) {
  OwnedTensor tensor = MakeTensor(TensorKind::kF32, {1000});
  const char* place = tensor.bytes.data();
  v1::Tensor message;
  EncodeTensor(std::move(tensor), &message);
  EXPECT_EQ(message.f32_le().data(), place);
}

TEST(EncodeExecution, SaysWhatThePlanSays) {
  v1::AttendRequest message = SmallRequest();
  message.mutable_options()->set_algorithm(v1::ALGORITHM_NAIVE);
  const ExecutionPlan plan = PlanOf(message);
  const v1::Execution execution = ExecutionOf(message);
  EXPECT_EQ(execution.algorithm(), v1::ALGORITHM_NAIVE);
  EXPECT_EQ(execution.algorithm_reason(), std::string(plan.reason));
  EXPECT_EQ(execution.cpu_target(), std::string(NameOf(ActiveCpuTarget())));
  EXPECT_EQ(execution.precision(), v1::COMPUTE_PRECISION_FLOAT32);
  EXPECT_EQ(execution.position_scheme(), "none");
  EXPECT_EQ(execution.causal_alignment(), v1::CAUSAL_ALIGNMENT_UNSPECIFIED);
  EXPECT_DOUBLE_EQ(execution.scale(), 1 / std::sqrt(6.0));
  EXPECT_EQ(execution.query_heads(), 4U);
  EXPECT_EQ(execution.key_value_heads(), 2U);
  EXPECT_EQ(execution.head_size(), 6U);
  EXPECT_EQ(execution.value_head_size(), 7U);
  EXPECT_EQ(execution.tile_query_rows(), static_cast<std::uint32_t>(plan.tile.query_rows));
  EXPECT_EQ(execution.tile_keys(), static_cast<std::uint32_t>(plan.tile.keys));
  EXPECT_EQ(execution.flops(), 2U * (2 * 3 * 5) * 4 * (6 + 7));
  EXPECT_EQ(execution.score_grid_bytes(), 2U * 4 * 3 * 5 * 4);
  EXPECT_FALSE(execution.has_verification());
}

TEST(EncodeExecution, SaysWhatWasRecorded) {
  ExecutionRecord record;
  record.workers = 3;
  record.times[Stage::kQueue] = 0.25;
  record.times[Stage::kProject] = 1.5;
  record.times[Stage::kAttend] = 2;
  record.times[Stage::kMaps] = 1e-9;
  record.total_seconds = 4.0;
  record.scratch_bytes = 10;
  record.packed_bytes = 20;
  record.projection_bytes = 30;
  record.workspace_bytes = 55;
  const v1::Execution execution = ExecutionOf(SmallRequest(), record);
  EXPECT_EQ(execution.workers(), 3U);
  EXPECT_EQ(execution.queue().seconds(), 0);
  EXPECT_EQ(execution.queue().nanos(), 250'000'000);
  EXPECT_EQ(execution.project().seconds(), 1);
  EXPECT_EQ(execution.project().nanos(), 500'000'000);
  EXPECT_EQ(execution.attend().seconds(), 2);
  EXPECT_EQ(execution.attend().nanos(), 0);
  EXPECT_EQ(execution.maps().nanos(), 1);
  EXPECT_EQ(execution.total().seconds(), 4);
  EXPECT_EQ(execution.scratch_bytes(), 10U);
  EXPECT_EQ(execution.packed_bytes(), 20U);
  EXPECT_EQ(execution.projection_bytes(), 30U);
  EXPECT_EQ(execution.workspace_bytes(), 55U);
}

TEST(EncodeExecution, EchoesEveryAlignment) {
  for (const v1::CausalAlignment alignment :
       {v1::CAUSAL_ALIGNMENT_TOP_LEFT, v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT, v1::CAUSAL_ALIGNMENT_EXPLICIT}) {
    v1::AttendRequest message = SmallRequest();
    v1::CausalMask* causal = message.mutable_options()->mutable_mask()->mutable_causal();
    causal->set_alignment(alignment);
    if (alignment == v1::CAUSAL_ALIGNMENT_EXPLICIT) causal->set_offset(1);
    EXPECT_EQ(ExecutionOf(message).causal_alignment(), alignment);
  }
}

TEST(EncodeExecution, EchoesSchemeAndScale) {
  v1::AttendRequest message = SmallRequest();
  message.mutable_options()->mutable_position()->mutable_alibi();
  message.mutable_options()->mutable_position()->set_query_offset(0);
  message.mutable_options()->set_scale(-0.125);
  const v1::Execution execution = ExecutionOf(message);
  EXPECT_EQ(execution.position_scheme(), "alibi");
  EXPECT_EQ(execution.scale(), -0.125);
}

}  // namespace
}  // namespace headlight
