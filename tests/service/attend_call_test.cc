#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "server/base/errors.h"
#include "tests/service/call_fixture.h"

namespace headlight {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

class AttendCallTest : public CallTest {
 protected:
  v1::AttendRequest request_ = DemoRequest<v1::AttendRequest>();
  v1::AttendResponse response_;
};

std::vector<float> FloatsOf(const v1::Tensor& tensor) {
  std::vector<float> floats(tensor.f32_le().size() / sizeof(float));
  std::memcpy(floats.data(), tensor.f32_le().data(), tensor.f32_le().size());
  return floats;
}

TEST_F(AttendCallTest, TheOutputAloneUnlessMoreIsAskedFor) {
  AttendCall call(shared_);
  ASSERT_TRUE(Run(call, request_, &response_).ok());
  EXPECT_THAT(response_.output().shape(), ElementsAre(10, 16));
  EXPECT_EQ(response_.output().f32_le().size(), 10U * 16 * 4);
  EXPECT_EQ(response_.maps_size(), 0);
  EXPECT_FALSE(response_.has_log_sum_exp());
  EXPECT_FALSE(response_.has_head_outputs());
  EXPECT_EQ(response_.execution().query_heads(), 3U);
}

TEST_F(AttendCallTest, EverythingThatIsAskedForAndNoOutput) {
  v1::OutputSelection& outputs = *request_.mutable_outputs();
  outputs.set_omit_output(true);
  outputs.set_log_sum_exp(true);
  outputs.set_head_outputs(true);
  outputs.add_maps()->mutable_full();
  outputs.mutable_maps(0)->add_heads(2);
  AttendCall call(shared_);
  ASSERT_TRUE(Run(call, request_, &response_).ok());
  EXPECT_FALSE(response_.has_output());
  EXPECT_THAT(response_.log_sum_exp().shape(), ElementsAre(1, 3, 10));
  EXPECT_THAT(response_.head_outputs().shape(), ElementsAre(1, 3, 10, 8));
  ASSERT_EQ(response_.maps_size(), 1);
  const v1::WeightMap& map = response_.maps(0);
  EXPECT_EQ(map.head(), 2U);
  EXPECT_EQ(map.stage(), v1::MAP_STAGE_WEIGHTS);
  EXPECT_EQ(map.row_begin(), 0);
  EXPECT_EQ(map.row_end(), 10);
  EXPECT_THAT(map.weights().shape(), ElementsAre(10, 10));
  const std::vector<float> weights = FloatsOf(map.weights());
  for (std::size_t row = 0; row < 10; ++row) {
    float sum = 0;
    for (std::size_t key = 0; key < 10; ++key) sum += weights[row * 10 + key];
    EXPECT_NEAR(sum, 1, 1e-5);
  }
}

TEST_F(AttendCallTest, TopKeysComeFlatByRow) {
  request_.mutable_options()->mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  v1::WeightMaps& map = *request_.mutable_outputs()->add_maps();
  map.mutable_top_keys()->set_k(3);
  map.add_heads(0);
  map.add_rows()->set_end(4);
  AttendCall call(shared_);
  ASSERT_TRUE(Run(call, request_, &response_).ok());
  ASSERT_EQ(response_.maps_size(), 1);
  const v1::TopKeysResult& top = response_.maps(0).top_keys();
  EXPECT_THAT(top.counts(), ElementsAre(1, 2, 3, 3));
  ASSERT_EQ(top.keys_size(), 9);
  ASSERT_EQ(top.weights_size(), 9);
  // The first word sees itself alone; head 0 looks one step back.
  EXPECT_EQ(top.keys(0), 0U);
  EXPECT_EQ(top.weights(0), 1);
  EXPECT_EQ(top.keys(1), 0U);
  EXPECT_EQ(top.keys(3), 1U);
  EXPECT_EQ(top.keys(6), 2U);
  EXPECT_GT(top.weights(6), top.weights(7));
}

TEST_F(AttendCallTest, CountsWhatItComputed) {
  request_.mutable_options()->set_algorithm(v1::ALGORITHM_FLASH);
  request_.mutable_outputs()->add_maps()->mutable_full();
  AttendCall call(shared_);
  ASSERT_TRUE(Run(call, request_, &response_).ok());
  EXPECT_TRUE(Exposes("headlight_tokens_total{side=\"query\"} 10"));
  EXPECT_TRUE(Exposes("headlight_tokens_total{side=\"key\"} 10"));
  EXPECT_TRUE(Exposes("headlight_score_grid_saved_bytes_total 1200"));
  EXPECT_TRUE(Exposes("headlight_attend_seconds_count{algorithm=\"flash\",size_class=\"small\"} 1"));
  EXPECT_TRUE(Exposes("headlight_stage_seconds_count{stage=\"decode\"} 1"));
  EXPECT_TRUE(Exposes("headlight_stage_seconds_count{stage=\"encode\"} 1"));
  EXPECT_FALSE(Exposes("headlight_weight_map_bytes_total 0"));
}

TEST_F(AttendCallTest, GivesBackItsPlaceAndItsMemory) {
  {
    AttendCall call(shared_);
    ASSERT_TRUE(call.Accept(request_, absl::InfiniteFuture()).ok());
    EXPECT_EQ(admission_.calls(), 1);
    ASSERT_TRUE(Compute(call).ok());
    call.Encode(&response_);
  }
  EXPECT_EQ(admission_.calls(), 0);
  EXPECT_EQ(memory_.now(), 0);
  EXPECT_GT(memory_.peak(), 0);
}

TEST_F(AttendCallTest, ARefusedCallHoldsNothing) {
  request_.mutable_options()->set_scale(std::nan(""));
  AttendCall call(shared_);
  const absl::Status status = call.Accept(request_, absl::InfiniteFuture());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(status).violations[0].field, "options.scale");
  EXPECT_EQ(admission_.calls(), 0);
  EXPECT_EQ(memory_.peak(), 0);
}

TEST_F(AttendCallTest, VerifiedRowsAndStatistics) {
  request_.mutable_outputs()->set_verify_rows(3);
  request_.mutable_outputs()->set_head_statistics(true);
  AttendCall call(shared_);
  ASSERT_TRUE(Run(call, request_, &response_).ok());
  EXPECT_EQ(response_.execution().verification().rows(), 3U);
  EXPECT_LT(response_.execution().verification().max_abs_error(), 1e-5);
  ASSERT_EQ(response_.head_statistics_size(), 3);
  EXPECT_EQ(response_.head_statistics(2).head(), 2U);
  EXPECT_GT(response_.head_statistics(0).share_on_previous(), 0.7);  // it looks one step back
}

// The plan of the same call, without its data.
v1::PlanAttentionRequest PlanOf(const v1::AttendRequest& request) {
  v1::PlanAttentionRequest plan;
  v1::TensorSpec* spec = plan.mutable_self_attention()->mutable_embeddings();
  *spec->mutable_shape() = request.self_attention().embeddings().shape();
  spec->set_kind(v1::TENSOR_KIND_F32);
  plan.mutable_self_attention()->set_layer("demo");
  *plan.mutable_options() = request.options();
  *plan.mutable_outputs() = request.outputs();
  return plan;
}

TEST_F(AttendCallTest, IsWhatWasPlanned) {
  for (const bool verifies : {false, true}) {
    for (const v1::Algorithm algorithm : {v1::ALGORITHM_NAIVE, v1::ALGORITHM_FLASH}) {
      request_.mutable_outputs()->set_verify_rows(verifies ? 4 : 0);
      request_.mutable_options()->set_algorithm(algorithm);
      v1::PlanAttentionResponse plan;
      ASSERT_TRUE(PlanCall(shared_, PlanOf(request_), &plan).ok());
      AttendCall call(shared_);
      response_.Clear();
      ASSERT_TRUE(Run(call, request_, &response_).ok());
      const v1::Execution& execution = response_.execution();
      EXPECT_EQ(plan.algorithm(), algorithm);
      EXPECT_EQ(plan.flops(), execution.flops());
      EXPECT_EQ(plan.score_grid_bytes(), execution.score_grid_bytes());
      EXPECT_GE(algorithm == v1::ALGORITHM_NAIVE ? plan.naive_bytes() : plan.flash_bytes(),
                execution.workspace_bytes());
      EXPECT_GE(plan.response_bytes(), response_.ByteSizeLong());
      EXPECT_EQ(plan.admission(), v1::ADMISSION_FORECAST_ADMITTED);
      EXPECT_GT(plan.predicted().nanos(), 0);
      EXPECT_EQ(plan.violations_size(), 0);
    }
  }
}

TEST_F(AttendCallTest, ALimitIsToldByThePlanAndARuleIsNot) {
  v1::PlanAttentionRequest plan;
  for (v1::TensorSpec* spec :
       {plan.mutable_query_key_value()->mutable_query(), plan.mutable_query_key_value()->mutable_key(),
        plan.mutable_query_key_value()->mutable_value()}) {
    for (const std::int64_t size : {1, 8, 65536, 64}) spec->add_shape(size);
    spec->set_kind(v1::TENSOR_KIND_F32);
  }
  v1::PlanAttentionResponse answer;
  ASSERT_TRUE(PlanCall(shared_, plan, &answer).ok());
  EXPECT_EQ(answer.flops(), 2 * std::uint64_t{65536} * 65536 * 8 * 128);
  EXPECT_GE(answer.violations_size(), 2);
  // What is too large to be planned is told all the same.
  plan.mutable_query_key_value()->mutable_query()->set_shape(2, std::int64_t{1} << 40);
  answer.Clear();
  ASSERT_TRUE(PlanCall(shared_, plan, &answer).ok());
  EXPECT_EQ(answer.flops(), 0U);
  EXPECT_GE(answer.violations_size(), 1);
  plan.mutable_options()->set_softcap(-1);
  EXPECT_EQ(PlanCall(shared_, plan, &answer).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AttendCallTest, EachStageCanRefuse) {
  const auto refusal = [this](const v1::AttendRequest& request) {
    AttendCall call(shared_);
    return call.Accept(request, absl::InfiniteFuture());
  };
  v1::AttendRequest wrong = request_;
  wrong.mutable_options()->set_softcap(-1);
  EXPECT_EQ(refusal(wrong).code(), absl::StatusCode::kInvalidArgument);
  v1::AttendRequest unknown = request_;
  unknown.mutable_self_attention()->set_layer("nobody's");
  EXPECT_EQ(refusal(unknown).code(), absl::StatusCode::kNotFound);
  v1::AttendRequest large = request_;
  large.mutable_outputs()->set_max_response_bytes(1);
  EXPECT_EQ(DetailsOf(refusal(large)).reason, ErrorReason::kResponseTooLarge);
  EXPECT_EQ(refusal(v1::AttendRequest()).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AttendCallTest, ValuesAreRefusedWhenTheyAreComputedOn) {
  std::string* bytes = request_.mutable_self_attention()->mutable_embeddings()->mutable_f32_le();
  const float bad = std::nanf("");
  std::memcpy(bytes->data() + (3 * 16 + 5) * sizeof(float), &bad, sizeof(float));
  AttendCall call(shared_);
  ASSERT_TRUE(call.Accept(request_, absl::InfiniteFuture()).ok());
  const absl::Status status = Compute(call);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const ErrorDetails details = DetailsOf(status);
  ASSERT_EQ(details.violations.size(), 1U);
  EXPECT_EQ(details.violations[0].field, "self_attention.embeddings");
  EXPECT_THAT(details.violations[0].got, testing::HasSubstr("[3, 5]"));
}

TEST_F(AttendCallTest, EndsWhenItIsCancelled) {
  AttendCall call(shared_);
  ASSERT_TRUE(call.Accept(request_, absl::InfiniteFuture()).ok());
  call.control()->Cancel();
  EXPECT_EQ(Compute(call).code(), absl::StatusCode::kCancelled);
}

TEST_F(AttendCallTest, EndsWhenItsDeadlineHasPassed) {
  AttendCall late(shared_);
  EXPECT_EQ(late.Accept(request_, absl::Now() - absl::Seconds(1)).code(), absl::StatusCode::kDeadlineExceeded);
  AttendCall call(shared_);
  const absl::Time deadline = absl::Now() + absl::Milliseconds(200);
  ASSERT_TRUE(call.Accept(request_, deadline).ok());
  absl::SleepFor(deadline - absl::Now());
  EXPECT_EQ(Compute(call).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(AttendCallTest, TheSameRequestHasTheSameBytes) {
  request_.mutable_outputs()->add_maps()->mutable_full();
  AttendCall first(shared_);
  ASSERT_TRUE(Run(first, request_, &response_).ok());
  v1::AttendResponse again;
  AttendCall second(shared_);
  ASSERT_TRUE(Run(second, request_, &again).ok());
  EXPECT_EQ(again.output().f32_le(), response_.output().f32_le());
  EXPECT_THAT(FloatsOf(again.maps(1).weights()), ElementsAreArray(FloatsOf(response_.maps(1).weights())));
}

}  // namespace
}  // namespace headlight
