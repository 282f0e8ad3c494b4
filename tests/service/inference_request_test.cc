#include "server/service/inference_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/base/errors.h"
#include "server/service/inference_service.h"
#include "tests/service/call_fixture.h"

namespace headlight {
namespace {

using testing::ElementsAre;

// Two heads of `tokens` tokens, all numbers 1.
inference::ModelInferRequest Ones(std::int64_t tokens) {
  inference::ModelInferRequest request;
  request.set_model_name(kInferenceModel);
  for (const char* name : {"query", "key", "value"}) {
    auto* input = request.add_inputs();
    input->set_name(name);
    input->set_datatype("FP32");
    for (const std::int64_t size : {std::int64_t{1}, std::int64_t{2}, tokens, std::int64_t{4}}) input->add_shape(size);
    for (std::int64_t i = 0; i < 8 * tokens; ++i) input->mutable_contents()->add_fp32_contents(1);
  }
  return request;
}

std::vector<std::string> Fields(const absl::Status& status) {
  std::vector<std::string> fields;
  for (const Violation& violation : DetailsOf(status).violations) fields.push_back(violation.field);
  return fields;
}

class InferenceTest : public CallTest {
 protected:
  absl::Status Infer(const inference::ModelInferRequest& request) {
    response_.Clear();
    ModelInferCall call(shared_);
    return Run(call, request, &response_);
  }
  inference::ModelInferResponse response_;
};

TEST_F(InferenceTest, TheOutputAloneUnlessMoreIsNamed) {
  inference::ModelInferRequest request = Ones(3);
  ASSERT_TRUE(Infer(request).ok());
  ASSERT_EQ(response_.outputs_size(), 1);
  EXPECT_THAT(response_.outputs(0).shape(), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(response_.raw_output_contents(0).size(), 4U * 24);
  request.add_outputs()->set_name("weights");
  ASSERT_TRUE(Infer(request).ok());
  ASSERT_EQ(response_.outputs_size(), 1);
  EXPECT_EQ(response_.outputs(0).name(), "weights");
  EXPECT_THAT(response_.outputs(0).shape(), ElementsAre(1, 2, 3, 3));
}

// As its clients write them by themselves: nothing is asked with them.
TEST_F(InferenceTest, ParametersOfTritonsOwn) {
  inference::ModelInferRequest request = Ones(3);
  (*request.mutable_parameters())["triton_enable_empty_final_response"].set_bool_param(true);
  EXPECT_TRUE(Infer(request).ok());
}

TEST_F(InferenceTest, PrioritiesAsTritonNumbersThem) {
  for (const auto& [number, priority] :
       {std::pair{0, v1::PRIORITY_INTERACTIVE}, {1, v1::PRIORITY_INTERACTIVE}, {2, v1::PRIORITY_BATCH}}) {
    inference::ModelInferRequest request = Ones(3);
    (*request.mutable_parameters())["priority"].set_int64_param(number);
    InferenceAsked asked;
    DecodeInference(request, &asked);
    EXPECT_EQ(asked.asked.priority(), priority) << number;
    EXPECT_TRUE(asked.decoded.request.violations.empty());
  }
}

TEST_F(InferenceTest, EnumsInLowerCase) {
  inference::ModelInferRequest request = Ones(3);
  (*request.mutable_parameters())["algorithm"].set_string_param("naive");
  InferenceAsked asked;
  DecodeInference(request, &asked);
  EXPECT_EQ(asked.asked.options().algorithm(), v1::ALGORITHM_NAIVE);
}

TEST_F(InferenceTest, AFieldOfTheOptionsByItsPath) {
  inference::ModelInferRequest request = Ones(3);
  auto& parameters = *request.mutable_parameters();
  parameters["options"].set_string_param(R"({"scale": 3, "softcap": 7})");
  parameters["scale"].set_int64_param(2);
  parameters["mask.window.right"].set_uint64_param(0);
  parameters["algorithm"].set_string_param("NAIVE");
  parameters["priority"].set_string_param("PRIORITY_BATCH");
  InferenceAsked asked;
  DecodeInference(request, &asked);
  const v1::AttentionOptions& options = asked.asked.options();
  EXPECT_EQ(options.scale(), 2);  // goes on top of what the JSON says
  EXPECT_EQ(options.softcap(), 7);
  EXPECT_TRUE(options.mask().window().has_right());
  EXPECT_FALSE(options.mask().window().has_left());
  EXPECT_EQ(options.algorithm(), v1::ALGORITHM_NAIVE);
  EXPECT_EQ(asked.asked.priority(), v1::PRIORITY_BATCH);
  EXPECT_EQ(asked.timeout, absl::InfiniteDuration());
  EXPECT_TRUE(asked.decoded.request.violations.empty());
}

TEST_F(InferenceTest, WhatIsWrongIsToldInItsTerms) {
  inference::ModelInferRequest request = Ones(3);
  request.mutable_inputs(1)->set_shape(3, 5);
  (*request.mutable_parameters())["mask.causal.alignment"].set_string_param("EXPLICIT");
  const absl::Status status = Infer(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const std::string& field : Fields(status)) {
    EXPECT_TRUE(field.starts_with("inputs.") || field.starts_with("parameters.")) << field;
  }
  EXPECT_GE(Fields(status).size(), 2U);
}

TEST_F(InferenceTest, AnInputTwiceAndOneTooMany) {
  inference::ModelInferRequest request = Ones(3);
  *request.add_inputs() = request.inputs(0);
  request.add_inputs()->set_name("bias");
  EXPECT_THAT(Fields(Infer(request)), ElementsAre("inputs.query", "inputs[4].name"));
}

TEST_F(InferenceTest, RawBytesStandForAllInputsOrNone) {
  inference::ModelInferRequest request = Ones(3);
  request.add_raw_input_contents(std::string(96, '\0'));
  EXPECT_THAT(Fields(Infer(request)), testing::Contains("raw_input_contents"));
}

}  // namespace
}  // namespace headlight
