#include "server/service/trace_stack_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "server/base/errors.h"
#include "tests/service/call_fixture.h"
#include "tests/support/stacks.h"

namespace headlight {
namespace {

using oracle::HandMadeInduction;
using oracle::PotterWords;
using oracle::RandomStack;
using oracle::StackSizes;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

class TraceStackCallTest : public CallTest {
 protected:
  TraceStackCallTest() {
    Hold(HandMadeInduction());
    for (const std::string& word : PotterWords()) request_.add_tokens(word);
    request_.set_stack("potter");
  }

  void Hold(const std::shared_ptr<const Stack>& stack) {
    (void)layers_.Remove(stack->name);  // stacks of the test's own share an id
    ASSERT_TRUE(layers_.Put({stack->name, stack->id, LayerOrigin::kUpload, {}, stack, 0}, /*replace=*/true).ok());
  }

  absl::Status Trace() {
    response_.Clear();
    TraceStackCall call(shared_);
    return Run(call, request_, &response_);
  }

  // What is wrong with the request, by field.
  std::vector<Violation> Refused() {
    const absl::Status status = Trace();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(admission_.calls(), 0);
    return DetailsOf(status).violations;
  }

  std::string RefusedField() {
    const std::vector<Violation> violations = Refused();
    return violations.size() == 1 ? violations[0].field : "not one violation";
  }

  void SwitchOff(std::uint32_t layer, std::uint32_t head) {
    v1::StackHead* off = request_.add_off();
    off->set_layer(layer);
    off->set_head(head);
  }

  v1::TraceStackRequest request_;
  v1::TraceStackResponse response_;
};

TEST_F(TraceStackCallTest, AHandMadeInductionPairBetsOnPotter) {
  request_.set_maps(true);
  ASSERT_TRUE(Trace().ok());
  EXPECT_EQ(response_.stack(), "potter");
  EXPECT_EQ(response_.stack_id(), "sha256:potter");
  EXPECT_THAT(response_.tokens(), ElementsAreArray(PotterWords()));
  EXPECT_THAT(response_.token_ids(), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 2));
  ASSERT_EQ(response_.bets_size(), 5);
  EXPECT_EQ(response_.bets(0).token(), "Potter");
  EXPECT_GT(response_.bets(0).probability(), 0.99);
  EXPECT_EQ(response_.target().id(), 3);
  EXPECT_EQ(response_.target().logit(), response_.bets(0).logit());
  ASSERT_EQ(response_.layers_size(), 2);
  ASSERT_EQ(response_.layers(0).maps_size(), 2);
  ASSERT_EQ(response_.layers(0).head_statistics_size(), 2);
  EXPECT_GT(response_.layers(0).head_statistics(0).share_on_previous(), 0.99);
  const v1::WeightMap& map = response_.layers(1).maps(0);
  EXPECT_EQ(map.row_end(), 10);
  EXPECT_THAT(map.weights().shape(), ElementsAre(10, 10));
  float weight = 0;
  std::memcpy(&weight, map.weights().f32_le().data() + (9 * 10 + 3) * sizeof(float), sizeof(float));
  EXPECT_GT(weight, 0.99F);  // the last Mrs looks at Potter
  EXPECT_FALSE(response_.has_logits());
  EXPECT_GT(response_.total().nanos(), 0);
}

TEST_F(TraceStackCallTest, TheHeadThatBetsHasTheLogit) {
  ASSERT_TRUE(Trace().ok());
  ASSERT_EQ(response_.attributions_size(), 4);
  for (const v1::HeadAttribution& head : response_.attributions()) {
    const bool bets = head.layer() == 1 && head.head() == 0;
    EXPECT_NEAR(head.logit(), bets ? 10 : 0, 1e-4);
    EXPECT_NEAR(head.centered_logit(), bets ? 10 - 10.0 / 9 : 0, 1e-4);
  }
  EXPECT_EQ(response_.embedding_logit(), 0);
  EXPECT_EQ(response_.bias_logit(), 0);
}

TEST_F(TraceStackCallTest, WithoutEitherHeadOfThePairThereIsNoBet) {
  for (const std::uint32_t layer : {0U, 1U}) {
    for (const std::uint32_t head : {0U, 1U}) {
      request_.clear_off();
      SwitchOff(layer, head);
      ASSERT_TRUE(Trace().ok());
      const bool bets = response_.bets(0).token() == "Potter" && response_.bets(0).probability() > 0.99;
      EXPECT_EQ(bets, head == 1) << layer << ", " << head;
    }
  }
}

TEST_F(TraceStackCallTest, ATargetByWordOrByIdAndFewerBets) {
  request_.set_bets(2);
  request_.set_target("driver");
  ASSERT_TRUE(Trace().ok());
  EXPECT_EQ(response_.bets_size(), 2);
  EXPECT_EQ(response_.target().token(), "driver");
  EXPECT_NEAR(response_.target().logit(), 0, 1e-4);
  request_.clear_target();
  request_.set_target_id(6);
  request_.set_bets(64);
  ASSERT_TRUE(Trace().ok());
  EXPECT_EQ(response_.target().token(), "driver");
  EXPECT_EQ(response_.bets_size(), 9);  // all words that there are
}

TEST_F(TraceStackCallTest, IdsAndNoWords) {
  StackSizes sizes;
  sizes.norms = sizes.biases = true;
  const auto stack = RandomStack(sizes);
  Hold(stack);
  request_ = {};
  request_.set_stack("sha256:random");
  const std::vector<std::int64_t> ids = {5, 36, 0, 17, 5};
  request_.mutable_token_ids()->Assign(ids.begin(), ids.end());
  request_.set_logits(true);
  ASSERT_TRUE(Trace().ok());
  EXPECT_THAT(response_.token_ids(), ElementsAreArray(ids));
  EXPECT_EQ(response_.tokens_size(), 0);
  EXPECT_EQ(response_.bets(0).token(), "");
  EXPECT_EQ(response_.layers(0).maps_size(), 0);
  EXPECT_THAT(response_.logits().shape(), ElementsAre(5, 37));
  const oracle::ExactTrace exact = oracle::Solve(*stack, ids, {}, response_.target().id());
  EXPECT_NEAR(response_.target().logit(), exact.logits[static_cast<std::size_t>(4 * 37 + response_.target().id())],
              2e-5);
  EXPECT_NEAR(response_.bias_logit(), exact.bias_logit, 1e-5);
  request_.add_tokens("w1");
  request_.clear_token_ids();
  EXPECT_EQ(RefusedField(), "tokens");
  request_.clear_tokens();
  request_.add_token_ids(1);
  request_.set_target("w1");
  EXPECT_EQ(RefusedField(), "target");
}

TEST_F(TraceStackCallTest, EveryUnknownWordIsTold) {
  request_.set_tokens(4, "kissed");
  request_.set_tokens(6, "cat");
  request_.set_target("dog");
  const std::vector<Violation> violations = Refused();
  ASSERT_EQ(violations.size(), 3U);
  EXPECT_EQ(violations[0].field, "tokens[4]");
  EXPECT_THAT(violations[0].got, HasSubstr("kissed"));
  EXPECT_THAT(violations[0].expected, HasSubstr("9 words"));
  EXPECT_EQ(violations[1].field, "tokens[6]");
  EXPECT_EQ(violations[2].field, "target");
}

TEST_F(TraceStackCallTest, EverythingThatIsWrongAtOnce) {
  SwitchOff(2, 0);
  SwitchOff(0, 7);
  SwitchOff(1, 1);
  SwitchOff(1, 1);
  request_.set_bets(65);
  request_.set_target("Mr");
  request_.set_target_id(9);
  request_.set_priority(static_cast<v1::Priority>(77));
  std::vector<std::string> fields;
  for (const Violation& violation : Refused()) fields.push_back(violation.field);
  EXPECT_THAT(fields, ElementsAre("bets", "priority", "target", "target_id", "off[0].layer", "off[1].head", "off[3]"));
}

TEST_F(TraceStackCallTest, TheTextIsThereOnceAndFits) {
  request_.add_token_ids(1);
  EXPECT_EQ(RefusedField(), "tokens");
  request_.clear_tokens();
  request_.set_token_ids(0, -1);
  request_.add_token_ids(9);
  EXPECT_EQ(Refused().size(), 2U);
  request_.clear_token_ids();
  EXPECT_EQ(RefusedField(), "tokens");
  for (int i = 0; i < 17; ++i) request_.add_token_ids(0);
  EXPECT_EQ(RefusedField(), "token_ids");  // 16 positions
  request_.clear_token_ids();
  for (int i = 0; i < 16; ++i) request_.add_token_ids(0);
  EXPECT_TRUE(Trace().ok());
  for (int i = 0; i < 5; ++i) SwitchOff(0, 0);
  EXPECT_EQ(RefusedField(), "off");
}

TEST_F(TraceStackCallTest, AnUnknownStackIsNotFoundWhereNothingElseIsWrong) {
  request_.set_stack("nobody's");
  EXPECT_EQ(Trace().code(), absl::StatusCode::kNotFound);
  request_.set_bets(65);
  EXPECT_EQ(RefusedField(), "bets");
  request_.set_bets(0);
  request_.set_stack("");
  EXPECT_EQ(RefusedField(), "stack");
}

TEST_F(TraceStackCallTest, WhatIsTooLargeIsToldBeforeItIsComputed) {
  Hold(RandomStack(StackSizes{}));
  request_ = {};
  request_.set_stack("random");
  for (int i = 0; i < 8192; ++i) request_.add_token_ids(i % 37);
  request_.set_maps(true);
  TraceStackCall call(shared_);
  const absl::Status status = call.Accept(request_, absl::InfiniteFuture());
  EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kResponseTooLarge);
  EXPECT_EQ(DetailsOf(status).violations[0].field, "maps");
  EXPECT_EQ(memory_.peak(), 0);
  StackSizes deep;
  deep.layers = kMostStackLayers + 1;
  Hold(RandomStack(deep));
  request_.set_maps(false);
  EXPECT_EQ(RefusedField(), "stack");
}

TEST_F(TraceStackCallTest, ManyTokensAsTheLimitsSay) {
  Hold(RandomStack(StackSizes{}));
  request_ = {};
  request_.set_stack("random");
  for (std::int64_t i = 0; i <= limits_.max_tokens; ++i) request_.add_token_ids(1);
  EXPECT_EQ(RefusedField(), "token_ids");
}

TEST_F(TraceStackCallTest, NumbersBeyondFloat32AreOfTheStack) {
  auto stack = std::make_shared<Stack>(*RandomStack(StackSizes{}));
  for (std::int64_t i = 0; i < 37 * 24; ++i) stack->token_embedding.floats()[i] = 3e38F;
  Hold(stack);
  request_ = {};
  request_.set_stack("random");
  request_.add_token_ids(1);
  EXPECT_THAT(RefusedField(), testing::StartsWith("stack"));
}

TEST_F(TraceStackCallTest, GivesBackItsPlaceAndItsMemoryEvenWhenItIsCancelled) {
  {
    TraceStackCall call(shared_);
    ASSERT_TRUE(call.Accept(request_, absl::InfiniteFuture()).ok());
    EXPECT_EQ(admission_.calls(), 1);
    call.control()->Cancel();
    EXPECT_EQ(Compute(call).code(), absl::StatusCode::kCancelled);
  }
  EXPECT_EQ(admission_.calls(), 0);
  EXPECT_EQ(memory_.now(), 0);
  EXPECT_TRUE(Trace().ok());
  EXPECT_EQ(memory_.now(), 0);
}

TEST_F(TraceStackCallTest, KeepsItsStackWhateverHappensToTheName) {
  TraceStackCall call(shared_);
  ASSERT_TRUE(call.Accept(request_, absl::InfiniteFuture()).ok());
  StackSizes other;
  auto replaced = std::make_shared<Stack>(*RandomStack(other));
  replaced->name = "potter";
  Hold(replaced);
  ASSERT_TRUE(Compute(call).ok());
  call.Encode(&response_);
  EXPECT_EQ(response_.stack_id(), "sha256:potter");
  EXPECT_EQ(response_.bets(0).token(), "Potter");
}

}  // namespace
}  // namespace headlight
