#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "server/base/errors.h"
#include "tests/service/call_fixture.h"

namespace headlight {
namespace {

using testing::SizeIs;

class CompareCallTest : public CallTest {
 protected:
  v1::CompareAlgorithmsRequest request_ = DemoRequest<v1::CompareAlgorithmsRequest>();
  v1::CompareAlgorithmsResponse response_;
};

TEST_F(CompareCallTest, AllThreeAgree) {
  CompareCall call(shared_);
  ASSERT_TRUE(Run(call, request_, &response_).ok());
  EXPECT_EQ(response_.naive().algorithm(), v1::ALGORITHM_NAIVE);
  EXPECT_EQ(response_.flash().algorithm(), v1::ALGORITHM_FLASH);
  EXPECT_EQ(response_.reference().rows(), 10U);
  EXPECT_EQ(response_.reference().rows_total(), 10U);
  EXPECT_GT(response_.reference().flops(), 0U);
  for (const v1::Difference* difference :
       {&response_.naive_flash(), &response_.naive_reference(), &response_.flash_reference()}) {
    EXPECT_LE(difference->max_abs_difference(), 1e-5);
    EXPECT_LE(difference->mean_abs_difference(), difference->max_abs_difference());
    EXPECT_THAT(difference->index(), SizeIs(2));
    EXPECT_EQ(difference->rows_compared(), 10U);
  }
}

TEST_F(CompareCallTest, AlgorithmAndOutputsDoNotMatter) {
  request_.mutable_options()->set_algorithm(v1::ALGORITHM_NAIVE);
  request_.mutable_outputs()->set_omit_output(true);
  request_.mutable_outputs()->set_log_sum_exp(true);
  request_.mutable_outputs()->set_max_response_bytes(1);
  CompareCall call(shared_);
  ASSERT_TRUE(Run(call, request_, &response_).ok());
  EXPECT_EQ(response_.flash().algorithm(), v1::ALGORITHM_FLASH);
}

TEST_F(CompareCallTest, ButOutputsAreChecked) {
  request_.mutable_outputs()->add_maps();
  CompareCall call(shared_);
  const absl::Status status = call.Accept(request_, absl::InfiniteFuture());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(status).violations[0].field, "outputs.maps[0].form");
}

TEST_F(CompareCallTest, CountsBothRuns) {
  CompareCall call(shared_);
  ASSERT_TRUE(Run(call, request_, &response_).ok());
  EXPECT_TRUE(Exposes("headlight_attend_seconds_count{algorithm=\"naive\",size_class=\"small\"} 1"));
  EXPECT_TRUE(Exposes("headlight_attend_seconds_count{algorithm=\"flash\",size_class=\"small\"} 1"));
  EXPECT_TRUE(Exposes("headlight_tokens_total{side=\"query\"} 20"));
}

TEST_F(CompareCallTest, GivesBackItsPlaceAndItsMemory) {
  {
    CompareCall call(shared_);
    ASSERT_TRUE(Run(call, request_, &response_).ok());
    EXPECT_EQ(admission_.calls(), 0);
    EXPECT_GT(admission_.reserved_bytes(), 0) << "its answer is there";
  }
  EXPECT_EQ(admission_.reserved_bytes(), 0);
  EXPECT_EQ(memory_.now(), 0);
}

TEST_F(CompareCallTest, EndsWhenItIsCancelled) {
  CompareCall call(shared_);
  ASSERT_TRUE(call.Accept(request_, absl::InfiniteFuture()).ok());
  call.control()->Cancel();
  EXPECT_EQ(Compute(call).code(), absl::StatusCode::kCancelled);
}

TEST_F(CompareCallTest, RefusesAnUnknownLayer) {
  request_.mutable_self_attention()->set_layer("nobody's");
  CompareCall call(shared_);
  EXPECT_EQ(call.Accept(request_, absl::InfiniteFuture()).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(admission_.calls(), 0);
}

}  // namespace
}  // namespace headlight
