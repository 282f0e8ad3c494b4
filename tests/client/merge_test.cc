#include "client/cpp/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "client/cpp/tensors.h"

namespace headlight::client {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// One head, two rows of two channels.
void AddPart(const std::vector<float>& output, const std::vector<float>& log_sum_exp,
             v1::MergePartialsRequest* request) {
  v1::PartialAttention* part = request->add_partials();
  *part->mutable_output() = *MakeTensor(output, {1, 1, 2, 2}, v1::TENSOR_KIND_F32);
  *part->mutable_log_sum_exp() = *MakeTensor(log_sum_exp, {1, 1, 2}, v1::TENSOR_KIND_F32);
}

std::vector<float> Joined(const v1::MergePartialsRequest& request) {
  const auto joined = MergePartials(request);
  EXPECT_TRUE(joined.ok()) << joined.status();
  return joined.ok() ? *FloatsOf(joined->output()) : std::vector<float>();
}

// Weights 3/4 and 1/4 in row 0; the second part sees nothing in row 1.
v1::MergePartialsRequest TwoParts() {
  v1::MergePartialsRequest request;
  AddPart({4, 8, 1, 2}, {std::log(3.0F), 5}, &request);
  AddPart({0, 4, 0, 0}, {0, kNothing}, &request);
  return request;
}

TEST(MergePartials, WeighsByLogSumExps) {
  EXPECT_THAT(Joined(TwoParts()), Pointwise(FloatNear(1e-6F), {3.0F, 7.0F, 1.0F, 2.0F}));
  const auto log_sum_exp = FloatsOf(MergePartials(TwoParts())->log_sum_exp());
  EXPECT_THAT(*log_sum_exp, ElementsAre(FloatEq(std::log(4.0F)), FloatEq(5)));
}

TEST(MergePartials, SinksAndGainsCountOnce) {
  v1::MergePartialsRequest request = TwoParts();
  request.add_sinks(std::log(4.0F));  // as much as both parts of row 0
  request.add_head_gains(10);
  const std::vector<float> joined = Joined(request);
  EXPECT_THAT(std::vector<float>(joined.begin(), joined.begin() + 2), Pointwise(FloatNear(1e-5F), {15.0F, 35.0F}));
}

TEST(MergePartials, RowsThatSeeNothingAreZeros) {
  v1::MergePartialsRequest request;
  AddPart({0, 0, 0, 0}, {kNothing, kNothing}, &request);
  request.add_sinks(1);
  EXPECT_THAT(Joined(request), ElementsAre(0, 0, 0, 0));
}

TEST(MergePartials, OutputWeightsProject) {
  v1::MergePartialsRequest request = TwoParts();
  *request.mutable_output_weights() = *MakeTensor(std::vector<float>{1, 0, 10, 1, 1, 0}, {2, 3}, v1::TENSOR_KIND_F32);
  *request.mutable_output_bias() = *MakeTensor(std::vector<float>{0, 0, 1}, {3}, v1::TENSOR_KIND_F32);
  const auto joined = MergePartials(request);
  ASSERT_TRUE(joined.ok()) << joined.status();
  EXPECT_THAT(joined->output().shape(), ElementsAre(1, 2, 3));
  EXPECT_THAT(*FloatsOf(joined->output()), Pointwise(FloatNear(1e-5F), {10.0F, 7.0F, 31.0F, 3.0F, 2.0F, 11.0F}));
}

TEST(MergePartials, ComesBackInTheKindThatWasAskedFor) {
  v1::MergePartialsRequest request = TwoParts();
  request.set_tensor_kind(v1::TENSOR_KIND_BF16);
  EXPECT_EQ(KindOf(MergePartials(request)->output()), v1::TENSOR_KIND_BF16);
}

TEST(MergePartials, SaysWhatDoesNotFit) {
  const auto message_of = [](const v1::MergePartialsRequest& request) {
    return std::string(MergePartials(request).status().message());
  };
  EXPECT_THAT(message_of({}), HasSubstr("at least 1"));
  v1::MergePartialsRequest request = TwoParts();
  request.mutable_partials(1)->clear_log_sum_exp();
  EXPECT_THAT(message_of(request), HasSubstr("partials[1].log_sum_exp"));
  request = TwoParts();
  request.add_sinks(1);
  request.add_sinks(1);
  EXPECT_THAT(message_of(request), HasSubstr("sinks: 2, expected 1"));
  request = TwoParts();
  AddPart({1, 1, 1, 1}, {std::nanf(""), 0}, &request);
  EXPECT_THAT(message_of(request), HasSubstr("partials[2].log_sum_exp: nan"));
  request = TwoParts();
  *request.mutable_output_bias() = *MakeTensor(std::vector<float>{1}, {1}, v1::TENSOR_KIND_F32);
  EXPECT_THAT(message_of(request), HasSubstr("output_bias"));
  request = TwoParts();
  *request.mutable_partials(1)->mutable_output() = *MakeTensor(std::vector<float>(4), {2, 2}, v1::TENSOR_KIND_F32);
  EXPECT_THAT(message_of(request), HasSubstr("partials[1]"));
}

}  // namespace
}  // namespace headlight::client
