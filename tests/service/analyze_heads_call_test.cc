#include "server/service/analyze_heads_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "server/base/errors.h"
#include "tests/service/call_fixture.h"

namespace headlight {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class AnalyzeHeadsCallTest : public CallTest {
 protected:
  AnalyzeHeadsCallTest() {
    AddDemoSentence();
    request_.set_layer("demo");
  }

  void AddDemoSentence() {
    EncodeTensor(OwnedTensor(GetDemo().embeddings), request_.add_sequences()->mutable_embeddings());
  }

  absl::Status Refusal(const v1::AnalyzeHeadsRequest& request) {
    AnalyzeHeadsCall call(shared_);
    return call.Accept(request, absl::InfiniteFuture());
  }

  std::vector<std::string> FieldsOfRefusal(const v1::AnalyzeHeadsRequest& request) {
    std::vector<std::string> fields;
    for (const Violation& violation : DetailsOf(Refusal(request)).violations) fields.push_back(violation.field);
    return fields;
  }

  // A pattern for the demo's ten words.
  static void SetPattern(std::int64_t rows, std::int64_t columns, v1::HeadSequence* sequence) {
    v1::Tensor* pattern = sequence->mutable_pattern();
    pattern->Clear();
    pattern->add_shape(rows);
    pattern->add_shape(columns);
    pattern->set_bool_u8(std::string(static_cast<std::size_t>(rows * columns), '\1'));
  }

  v1::AnalyzeHeadsRequest request_;
  v1::AnalyzeHeadsResponse response_;
};

TEST_F(AnalyzeHeadsCallTest, TheDemosFirstHeadLooksOneStepBack) {
  AnalyzeHeadsCall call(shared_);
  ASSERT_EQ(Run(call, request_, &response_), absl::OkStatus());
  ASSERT_EQ(response_.heads_size(), 3);
  EXPECT_EQ(response_.heads(0).habit(), v1::HABIT_PREVIOUS_TOKEN);
  EXPECT_THAT(response_.heads(0).description(), HasSubstr("looks one step back, 0."));
  EXPECT_EQ(response_.heads(0).habit_score(), response_.heads(0).shares().previous());
  EXPECT_GT(response_.heads(0).previous_token_score(), 0.6);
  EXPECT_FALSE(response_.heads(0).has_pattern_score());
  EXPECT_EQ(response_.heads(1).shares().duplicate(), 0);
  ASSERT_EQ(response_.distances_size(), 3);
  EXPECT_EQ(response_.distances(2).head(), 1U);
  EXPECT_EQ(response_.distances(2).other(), 2U);
  EXPECT_EQ(response_.rows(), 10U);
  EXPECT_EQ(response_.layer(), "demo");
  EXPECT_EQ(response_.execution().algorithm(), v1::ALGORITHM_UNSPECIFIED);
  EXPECT_EQ(response_.execution().query_heads(), 3U);
  EXPECT_GT(response_.execution().flops(), 0U);
  EXPECT_GT(response_.execution().workspace_bytes(), 0U);
}

// The numbers that Attend's statistics have, too.
TEST_F(AnalyzeHeadsCallTest, AgreesWithAttendsStatistics) {
  v1::AttendRequest attend = DemoRequest<v1::AttendRequest>();
  attend.mutable_outputs()->set_head_statistics(true);
  attend.mutable_options()->mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  AttendCall attention(shared_);
  v1::AttendResponse statistics;
  ASSERT_EQ(Run(attention, attend, &statistics), absl::OkStatus());
  *request_.mutable_options() = attend.options();
  AnalyzeHeadsCall call(shared_);
  ASSERT_EQ(Run(call, request_, &response_), absl::OkStatus());
  for (int h = 0; h < 3; ++h) {
    const v1::HeadReport& report = response_.heads(h);
    const v1::HeadStatistics& want = statistics.head_statistics(h);
    EXPECT_NEAR(report.mean_entropy(), want.mean_entropy(), 1e-5);
    EXPECT_NEAR(report.mean_largest_weight(), want.mean_largest_weight(), 1e-5);
    EXPECT_NEAR(report.mean_distance(), want.mean_distance(), 1e-5);
    EXPECT_NEAR(report.shares().previous(), want.share_on_previous(), 1e-5);
    EXPECT_NEAR(report.shares().same(), want.share_on_same(), 1e-5);
    EXPECT_NEAR(report.shares().first(), want.share_on_first(), 1e-5);
  }
}

TEST_F(AnalyzeHeadsCallTest, SeveralSequencesArePooled) {
  AnalyzeHeadsCall once(shared_);
  ASSERT_EQ(Run(once, request_, &response_), absl::OkStatus());
  for (int i = 0; i < 10; ++i) request_.mutable_sequences(0)->add_token_ids(i % 4);
  SetPattern(10, 10, request_.mutable_sequences(0));
  AddDemoSentence();
  AnalyzeHeadsCall twice(shared_);
  v1::AnalyzeHeadsResponse both;
  ASSERT_EQ(Run(twice, request_, &both), absl::OkStatus());
  EXPECT_EQ(both.rows(), 20U);
  EXPECT_DOUBLE_EQ(both.heads(1).mean_entropy(), response_.heads(1).mean_entropy());
  EXPECT_NEAR(both.heads(1).pattern_score(), 1, 1e-6);
  EXPECT_GT(both.heads(1).shares().duplicate(), 0);
  EXPECT_EQ(memory_.now(), 0);
}

TEST_F(AnalyzeHeadsCallTest, LookAlikesAreTold) {
  request_.set_cluster_distance(0.69);
  AnalyzeHeadsCall call(shared_);
  ASSERT_EQ(Run(call, request_, &response_), absl::OkStatus());
  ASSERT_EQ(response_.clusters_size(), 1);
  EXPECT_THAT(response_.clusters(0).heads(), ElementsAre(0, 1, 2));
  request_.set_cluster_distance(0);
  AnalyzeHeadsCall strict(shared_);
  v1::AnalyzeHeadsResponse none;
  ASSERT_EQ(Run(strict, request_, &none), absl::OkStatus());
  EXPECT_EQ(none.clusters_size(), 0);
}

TEST_F(AnalyzeHeadsCallTest, EveryViolationIsToldWhereItIs) {
  AddDemoSentence();
  AddDemoSentence();
  request_.mutable_sequences(0)->add_token_ids(4);
  SetPattern(10, 9, request_.mutable_sequences(1));
  request_.mutable_sequences(2)->mutable_embeddings()->set_shape(1, 8);
  request_.mutable_options()->add_head_gains(1);
  request_.mutable_options()->set_softcap(-1);
  request_.set_cluster_distance(0.7);
  EXPECT_THAT(FieldsOfRefusal(request_),
              UnorderedElementsAre("options.head_gains", "cluster_distance", "sequences[0].token_ids",
                                   "options.softcap", "options.head_gains", "sequences[1].pattern.shape",
                                   "sequences[2].embeddings.data", "sequences[2].embeddings.shape"));
  EXPECT_EQ(admission_.calls(), 0);
}

TEST_F(AnalyzeHeadsCallTest, AnEmptyRequestLacksBoth) {
  AnalyzeHeadsCall call(shared_);
  const absl::Status status = call.Accept(v1::AnalyzeHeadsRequest(), absl::InfiniteFuture());
  std::vector<std::string> fields;
  for (const Violation& violation : DetailsOf(status).violations) fields.push_back(violation.field);
  EXPECT_EQ(fields, (std::vector<std::string>{"sequences", "layer"}));
}

TEST_F(AnalyzeHeadsCallTest, SequencesAreOfTheRightRankNumberAndKind) {
  v1::AnalyzeHeadsRequest none;
  none.set_layer("demo");
  EXPECT_THAT(FieldsOfRefusal(none), ElementsAre("sequences"));
  v1::AnalyzeHeadsRequest many = request_;
  for (int i = 0; i < 64; ++i) many.add_sequences();
  EXPECT_EQ(DetailsOf(Refusal(many)).reason, ErrorReason::kRequestTooExpensive);
  EXPECT_THAT(FieldsOfRefusal(many), ElementsAre("sequences"));
  v1::AnalyzeHeadsRequest batched = request_;
  batched.mutable_sequences(0)->mutable_embeddings()->clear_shape();
  for (const std::int64_t size : {1, 10, 16}) batched.mutable_sequences(0)->mutable_embeddings()->add_shape(size);
  EXPECT_THAT(FieldsOfRefusal(batched), ElementsAre("sequences[0].embeddings.shape"));
  v1::AnalyzeHeadsRequest mixed = request_;
  *mixed.add_sequences() = request_.sequences(0);
  mixed.mutable_sequences(1)->mutable_embeddings()->set_f16_le(std::string(320, '\0'));
  EXPECT_THAT(FieldsOfRefusal(mixed), ElementsAre("sequences[1].embeddings.data"));
  v1::AnalyzeHeadsRequest nothing = request_;
  nothing.clear_weights();
  EXPECT_THAT(FieldsOfRefusal(nothing), ElementsAre("layer"));
}

TEST_F(AnalyzeHeadsCallTest, AMaskIsForOneLength) {
  AddDemoSentence();
  v1::Tensor* mask = request_.mutable_options()->mutable_mask()->mutable_tensor();
  mask->add_shape(10);
  mask->set_bool_u8(std::string(10, '\1'));
  AnalyzeHeadsCall call(shared_);
  EXPECT_EQ(Run(call, request_, &response_), absl::OkStatus());
  v1::Tensor* shorter = request_.mutable_sequences(1)->mutable_embeddings();
  shorter->set_shape(0, 9);
  shorter->mutable_f32_le()->resize(9 * 16 * sizeof(float));
  EXPECT_THAT(FieldsOfRefusal(request_), testing::Contains("options.mask.tensor"));
}

TEST_F(AnalyzeHeadsCallTest, AnUnknownLayerIsNotFound) {
  AddDemoSentence();
  request_.set_layer("nobody's");
  const absl::Status status = Refusal(request_);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message().substr(0, 6), "layer:");
  request_.mutable_sequences(0)->add_token_ids(4);
  EXPECT_EQ(Refusal(request_).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AnalyzeHeadsCallTest, LayersThatWereSent) {
  const LayerMatrices& demo = GetDemo().layer.matrices();
  v1::LayerWeights* weights = request_.mutable_layer_weights();
  EncodeTensor(OwnedTensor(demo.query), weights->mutable_query());
  EncodeTensor(OwnedTensor(demo.key), weights->mutable_key());
  EncodeTensor(OwnedTensor(demo.value), weights->mutable_value());
  EncodeTensor(OwnedTensor(demo.output), weights->mutable_output());
  EXPECT_THAT(FieldsOfRefusal(request_), ElementsAre("options.query_heads"));
  request_.mutable_options()->set_query_heads(3);
  AnalyzeHeadsCall call(shared_);
  ASSERT_EQ(Run(call, request_, &response_), absl::OkStatus());
  EXPECT_EQ(response_.layer(), "");
  EXPECT_EQ(response_.heads(0).habit(), v1::HABIT_PREVIOUS_TOKEN);
  weights->mutable_query()->set_shape(0, 15);
  EXPECT_THAT(FieldsOfRefusal(request_), testing::Contains("layer_weights.query.shape"));
}

TEST_F(AnalyzeHeadsCallTest, ValuesAreRefusedWhereTheyAre) {
  AddDemoSentence();
  std::string* bytes = request_.mutable_sequences(1)->mutable_embeddings()->mutable_f32_le();
  const float bad = std::nanf("");
  std::memcpy(bytes->data() + (3 * 16 + 5) * sizeof(float), &bad, sizeof(float));
  AnalyzeHeadsCall call(shared_);
  const absl::Status status = Run(call, request_, &response_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(DetailsOf(status).violations.size(), 1U);
  EXPECT_EQ(DetailsOf(status).violations[0].field, "sequences[1].embeddings");
  AnalyzeHeadsCall patterned(shared_);
  SetPattern(10, 10, request_.mutable_sequences(0));
  (*request_.mutable_sequences(0)->mutable_pattern()->mutable_bool_u8())[42] = 7;
  const absl::Status pattern = Run(patterned, request_, &response_);
  ASSERT_EQ(DetailsOf(pattern).violations.size(), 1U);
  EXPECT_EQ(DetailsOf(pattern).violations[0].field, "sequences[0].pattern");
  EXPECT_EQ(DetailsOf(pattern).violations[0].got, "7 at [4, 2]");
}

TEST_F(AnalyzeHeadsCallTest, WhatIsTooExpensiveIsRefusedBeforeItBegins) {
  limits_.max_flops = 1000;
  EXPECT_EQ(DetailsOf(Refusal(request_)).reason, ErrorReason::kRequestTooExpensive);
  limits_.max_flops = 30'000;  // enough for one attention, not for looking at its heads
  EXPECT_EQ(DetailsOf(Refusal(request_)).reason, ErrorReason::kRequestTooExpensive);
  EXPECT_EQ(admission_.calls(), 0);
}

TEST_F(AnalyzeHeadsCallTest, EndsWhenItIsCancelled) {
  AnalyzeHeadsCall call(shared_);
  ASSERT_TRUE(call.Accept(request_, absl::InfiniteFuture()).ok());
  call.control()->Cancel();
  EXPECT_EQ(Compute(call).code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace headlight
