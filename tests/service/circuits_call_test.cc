#include "server/service/circuits_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "server/base/errors.h"
#include "server/kernels/seeded.h"
#include "tests/service/call_fixture.h"

namespace headlight {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

std::vector<float> FloatsOf(const v1::Tensor& tensor) {
  std::vector<float> floats(tensor.f32_le().size() / sizeof(float));
  std::memcpy(floats.data(), tensor.f32_le().data(), tensor.f32_le().size());
  return floats;
}

v1::Tensor RandomTensor(Shape shape, std::uint64_t seed) {
  OwnedTensor tensor = MakeTensor(TensorKind::kF32, std::move(shape));
  SeededRow({seed, 0.5F}, 0, static_cast<std::int64_t>(tensor.bytes.size() / sizeof(float)), tensor.floats());
  v1::Tensor message;
  EncodeTensor(std::move(tensor), &message);
  return message;
}

std::vector<std::string> FieldsOf(const absl::Status& status) {
  std::vector<std::string> fields;
  for (const Violation& violation : DetailsOf(status).violations) fields.push_back(violation.field);
  return fields;
}

class CircuitsCallTest : public CallTest {
 protected:
  CircuitsCallTest() { request_.set_layer("demo"); }

  absl::Status Refusal() {
    CircuitsCall call(shared_);
    return call.Accept(request_, absl::InfiniteFuture());
  }

  absl::Status Analyze() {
    CircuitsCall call(shared_);
    return Run(call, request_, &response_);
  }

  void AskForSwap(std::uint32_t aim, std::uint32_t cargo) {
    v1::CircuitSwap* swap = request_.mutable_swap();
    EncodeTensor(OwnedTensor(GetDemo().embeddings), swap->mutable_embeddings());
    swap->set_aim_head(aim);
    swap->set_cargo_head(cargo);
  }

  // An Attend of the unchanged layer that asks for the map of one head.
  v1::AttendResponse Attend(const v1::CircuitSwap& swap, std::uint32_t head) {
    v1::AttendRequest request;
    *request.mutable_self_attention()->mutable_embeddings() = swap.embeddings();
    request.mutable_self_attention()->set_layer(request_.layer());
    *request.mutable_options() = swap.options();
    v1::WeightMaps* map = request.mutable_outputs()->add_maps();
    map->mutable_full();
    map->add_heads(head);
    AttendCall call(shared_);
    v1::AttendResponse response;
    EXPECT_TRUE(Run(call, request, &response).ok());
    return response;
  }

  v1::AnalyzeCircuitsRequest request_;
  v1::AnalyzeCircuitsResponse response_;
};

TEST_F(CircuitsCallTest, AllHeadsOfTheDemo) {
  request_.set_directions(2);
  ASSERT_TRUE(Analyze().ok());
  EXPECT_EQ(response_.layer_name(), "demo");
  EXPECT_EQ(response_.layer_id(), GetDemo().layer.facts().id);
  ASSERT_EQ(response_.heads_size(), 3);
  for (int h = 0; h < 3; ++h) {
    const v1::HeadCircuits& head = response_.heads(h);
    EXPECT_EQ(head.head(), static_cast<std::uint32_t>(h));
    EXPECT_EQ(head.query_key().singular_values_size(), 12);
    EXPECT_THAT(head.query_key().left().shape(), ElementsAre(2, 16));
    // Its values are the eight property channels as they are, written back to where they were.
    EXPECT_THAT(head.output_value().singular_values(), testing::Each(testing::DoubleNear(1, 1e-14)));
    EXPECT_NEAR(head.output_value().frobenius_norm(), std::sqrt(8), 1e-14);
    EXPECT_EQ(head.eigenvalues_real_size(), 8);
    EXPECT_NEAR(head.copying_score(), 1, 1e-14);
    EXPECT_FALSE(head.has_scores());
  }
  // Head 0 turns eight position channels back, by 2.2 each.
  EXPECT_NEAR(response_.heads(0).query_key().singular_values(7), 2.2, 1e-6);
  EXPECT_NEAR(response_.heads(0).query_key().singular_values(8), 0, 1e-14);
  // Head 1's strongest pair is a verb with its subject.
  EXPECT_NEAR(response_.heads(1).query_key().singular_values(0), 6, 1e-6);
  EXPECT_FALSE(response_.has_random_baseline());
  EXPECT_FALSE(response_.has_swapped_map());
}

TEST_F(CircuitsCallTest, ScoresAreThoseOfAnAttendBeforeItsSoftmax) {
  request_.add_heads(2);
  EncodeTensor(OwnedTensor(GetDemo().embeddings), request_.mutable_queries());
  *request_.mutable_keys() = request_.queries();
  ASSERT_TRUE(Analyze().ok());
  ASSERT_EQ(response_.heads_size(), 1);
  EXPECT_EQ(response_.heads(0).head(), 2U);
  EXPECT_THAT(response_.heads(0).scores().shape(), ElementsAre(10, 10));
  v1::AttendRequest attend = DemoRequest<v1::AttendRequest>();
  v1::WeightMaps* map = attend.mutable_outputs()->add_maps();
  map->mutable_full();
  map->add_heads(2);
  map->set_stage(v1::MAP_STAGE_SCALED);
  AttendCall call(shared_);
  v1::AttendResponse attended;
  ASSERT_TRUE(Run(call, attend, &attended).ok());
  // Sums of 12 products of float32 numbers below 21, each of which is a sum of 16: at most 28 roundings of 2^-24.
  EXPECT_THAT(FloatsOf(response_.heads(0).scores()),
              testing::Pointwise(testing::FloatNear(28 * 0x1p-24F * 21), FloatsOf(attended.maps(0).weights())));
}

TEST_F(CircuitsCallTest, CompositionsWithALaterLayer) {
  request_.set_later_layer("demo");
  request_.add_heads(1);
  ASSERT_TRUE(Analyze().ok());
  ASSERT_EQ(response_.compositions_size(), 3);
  EXPECT_EQ(response_.compositions(2).head(), 1U);
  EXPECT_EQ(response_.compositions(2).later_head(), 2U);
  // Nothing is written to the position channels that head 0 reads; values carry the properties on.
  EXPECT_NEAR(response_.compositions(0).query(), 0, 1e-15);
  EXPECT_NEAR(response_.compositions(0).value(), std::sqrt(8) / 8, 1e-14);
  EXPECT_GT(response_.compositions(1).query(), response_.random_baseline().query());
  EXPECT_NEAR(response_.random_baseline().query(), 0.25, 0.02);  // a little below the root of 1/16
}

TEST_F(CircuitsCallTest, TheSwappedMapIsTheAimsBitForBit) {
  for (const v1::Algorithm algorithm : {v1::ALGORITHM_NAIVE, v1::ALGORITHM_FLASH, v1::ALGORITHM_UNSPECIFIED}) {
    for (const bool rotary : {false, true}) {
      AskForSwap(1, 2);
      v1::CircuitSwap& swap = *request_.mutable_swap();
      swap.mutable_options()->set_algorithm(algorithm);
      if (rotary) {
        swap.mutable_options()->mutable_position()->mutable_rotary()->set_layout(v1::CHANNEL_LAYOUT_HALVES);
        swap.mutable_options()->mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
      }
      *swap.mutable_embeddings() = RandomTensor({150, 16}, 5);
      response_.Clear();
      ASSERT_TRUE(Analyze().ok());
      const v1::AttendResponse plain = Attend(swap, 1);
      EXPECT_THAT(response_.swapped_map().shape(), ElementsAre(150, 150));
      EXPECT_EQ(response_.swapped_map().f32_le(), plain.maps(0).weights().f32_le());
      request_.clear_swap();
    }
  }
}

// The layer's three matrices of values and outputs are the same in every head of the demo, so a swap changes nothing
// beyond float32: what the aim carries is what it would have carried.
TEST_F(CircuitsCallTest, ASwapOfEqualCargosChangesNothing) {
  AskForSwap(0, 2);
  ASSERT_TRUE(Analyze().ok());
  const std::vector<float> output = FloatsOf(Attend(request_.swap(), 0).output());
  EXPECT_THAT(FloatsOf(response_.swapped_output()), testing::Pointwise(testing::FloatNear(1e-6F), output));
}

TEST_F(CircuitsCallTest, EveryViolationAtOnce) {
  request_.set_query_heads(4);
  request_.add_heads(9);
  request_.set_directions(65);
  *request_.mutable_queries() = RandomTensor({2, 15}, 1);
  request_.set_priority(static_cast<v1::Priority>(77));
  request_.mutable_swap()->mutable_options()->add_head_gains(1);
  const absl::Status status = Refusal();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(FieldsOf(status), UnorderedElementsAre("query_heads", "directions", "keys", "priority",
                                                     "swap.embeddings.shape", "swap.options.head_gains"));
}

TEST_F(CircuitsCallTest, ViolationsOfWhatALayerKnows) {
  request_.add_heads(1);
  request_.add_heads(3);
  request_.add_heads(1);
  *request_.mutable_queries() = RandomTensor({2, 15}, 1);
  *request_.mutable_keys() = RandomTensor({16}, 1);
  AskForSwap(3, 7);
  request_.mutable_swap()->mutable_options()->set_query_heads(2);
  request_.mutable_swap()->mutable_options()->set_softcap(-1);
  const absl::Status status = Refusal();
  EXPECT_THAT(FieldsOf(status),
              UnorderedElementsAre("heads[1]", "heads[2]", "queries.shape", "keys.shape", "swap.aim_head",
                                   "swap.cargo_head", "swap.options.query_heads", "swap.options.softcap"));
}

TEST_F(CircuitsCallTest, AHeadThatIsNotThereIsWrongNotExpensive) {
  AskForSwap(0, 9);
  const absl::Status status = Refusal();
  EXPECT_THAT(FieldsOf(status), ElementsAre("swap.cargo_head"));
  EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kInvalidRequest);
}

TEST_F(CircuitsCallTest, EachThingThatIsWrongWithASwapIsToldOnceAndAsTheSwaps) {
  request_.mutable_swap();
  EXPECT_THAT(FieldsOf(Refusal()), ElementsAre("swap.embeddings.shape"));
  AskForSwap(0, 1);
  reinterpret_cast<float*>(request_.mutable_swap()->mutable_embeddings()->mutable_f32_le()->data())[16] = NAN;
  EXPECT_THAT(FieldsOf(Analyze()), ElementsAre("swap.embeddings"));
}

TEST_F(CircuitsCallTest, ScoresBeyondFloat32AreRefused) {
  EncodeTensor(OwnedTensor(GetDemo().embeddings), request_.mutable_queries());
  auto* numbers = reinterpret_cast<float*>(request_.mutable_queries()->mutable_f32_le()->data());
  for (int i = 0; i < 160; ++i) numbers[i] *= 1e30F;
  *request_.mutable_keys() = request_.queries();
  const absl::Status status = Analyze();
  EXPECT_THAT(FieldsOf(status), ElementsAre("queries"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("beyond float32"));
}

TEST_F(CircuitsCallTest, HeadsOfNoLaterLayer) {
  request_.set_later_query_heads(4);
  EXPECT_THAT(FieldsOf(Refusal()), ElementsAre("later_layer"));
}

TEST_F(CircuitsCallTest, UnknownLayers) {
  request_.set_layer("nobody's");
  EXPECT_EQ(Refusal().code(), absl::StatusCode::kNotFound);
  request_.set_layer("demo");
  request_.set_later_layer("nobody's");
  const absl::Status later = Refusal();
  EXPECT_EQ(DetailsOf(later).reason, ErrorReason::kLayerNotFound);
  EXPECT_THAT(std::string(later.message()), HasSubstr("later_layer"));
  request_.set_directions(65);
  EXPECT_EQ(Refusal().code(), absl::StatusCode::kInvalidArgument);
  request_.set_directions(0);
  request_.clear_layer();
  EXPECT_THAT(FieldsOf(Refusal()), ElementsAre("layer"));
}

TEST_F(CircuitsCallTest, WhatIsTooLargeIsRefusedBeforeItIsComputed) {
  *request_.mutable_queries() = RandomTensor({2000, 16}, 1);
  *request_.mutable_keys() = RandomTensor({2000, 16}, 2);
  EXPECT_EQ(DetailsOf(Refusal()).reason, ErrorReason::kRequestTooExpensive);
  request_.add_heads(0);
  limits_.max_response_bytes = 15 << 20;
  EXPECT_EQ(DetailsOf(Refusal()).reason, ErrorReason::kResponseTooLarge);
  limits_.max_response_bytes = 17 << 20;
  EXPECT_TRUE(Refusal().ok());
  limits_.max_workspace_bytes = 1 << 20;
  EXPECT_EQ(DetailsOf(Refusal()).reason, ErrorReason::kRequestTooExpensive);
}

TEST_F(CircuitsCallTest, TheAnswerIsNoLargerThanWasCounted) {
  request_.set_directions(64);
  request_.set_later_layer("demo");
  *request_.mutable_queries() = RandomTensor({7, 16}, 1);
  *request_.mutable_keys() = RandomTensor({9, 16}, 2);
  AskForSwap(0, 1);
  ASSERT_TRUE(Analyze().ok());
  // So that no answer is computed that cannot be sent.
  limits_.max_response_bytes = static_cast<std::int64_t>(response_.ByteSizeLong()) - 1;
  EXPECT_EQ(DetailsOf(Refusal()).reason, ErrorReason::kResponseTooLarge);
}

TEST_F(CircuitsCallTest, EndsWhenItIsCancelled) {
  CircuitsCall call(shared_);
  ASSERT_TRUE(call.Accept(request_, absl::InfiniteFuture()).ok());
  call.control()->Cancel();
  EXPECT_EQ(Compute(call).code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace headlight
