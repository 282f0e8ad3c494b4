#include "client/cpp/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "client/cpp/client.h"
#include "client/cpp/tensors.h"
#include "tests/client/fake_server.h"

namespace headlight::client {
namespace {

v1::Tensor TensorOf(const std::vector<std::int64_t>& shape, v1::TensorKind kind) {
  return *MakeTensor(std::vector<float>(static_cast<std::size_t>(*ElementCount(shape))), shape, kind);
}

bool Is(const v1::TensorSpec& spec, const std::vector<std::int64_t>& shape, v1::TensorKind kind) {
  return std::equal(shape.begin(), shape.end(), spec.shape().begin(), spec.shape().end()) && spec.kind() == kind;
}

TEST(Plan, QueryKeyValueBecomeSpecs) {
  v1::AttendRequest request;
  *request.mutable_query_key_value()->mutable_query() = TensorOf({2, 4}, v1::TENSOR_KIND_F16);
  *request.mutable_query_key_value()->mutable_key() = TensorOf({3, 4}, v1::TENSOR_KIND_BF16);
  request.mutable_query_key_value()->mutable_value()->add_shape(7);
  request.set_priority(v1::PRIORITY_BATCH);
  *request.add_tokens() = std::string(1, 'a');
  const v1::PlanAttentionRequest plan = PlanRequestOf(request);
  EXPECT_TRUE(Is(plan.query_key_value().query(), {2, 4}, v1::TENSOR_KIND_F16));
  EXPECT_TRUE(Is(plan.query_key_value().key(), {3, 4}, v1::TENSOR_KIND_BF16));
  EXPECT_TRUE(Is(plan.query_key_value().value(), {7}, v1::TENSOR_KIND_UNSPECIFIED));
  EXPECT_EQ(plan.priority(), v1::PRIORITY_BATCH);
  EXPECT_FALSE(plan.has_options());
  EXPECT_FALSE(plan.has_outputs());
  EXPECT_FALSE(plan.has_mask_tensor());
}

TEST(Plan, SelfAttentionBecomesSpecs) {
  v1::AttendRequest request;
  v1::SelfAttention* self = request.mutable_self_attention();
  *self->mutable_embeddings() = TensorOf({5, 4}, v1::TENSOR_KIND_F32);
  *self->mutable_context() = TensorOf({6, 4}, v1::TENSOR_KIND_F32);
  v1::LayerWeights* weights = self->mutable_layer_weights();
  std::int64_t width = 1;
  for (v1::Tensor* tensor :
       {weights->mutable_query(), weights->mutable_key(), weights->mutable_value(), weights->mutable_output(),
        weights->mutable_query_bias(), weights->mutable_key_bias(), weights->mutable_value_bias()}) {
    *tensor = TensorOf({width++}, v1::TENSOR_KIND_F32);
  }
  const v1::SelfAttentionSpec spec = PlanRequestOf(request).self_attention();
  EXPECT_TRUE(Is(spec.embeddings(), {5, 4}, v1::TENSOR_KIND_F32));
  EXPECT_TRUE(Is(spec.context(), {6, 4}, v1::TENSOR_KIND_F32));
  width = 1;
  const v1::LayerWeightsSpec& layer = spec.layer_weights();
  for (const v1::TensorSpec* tensor : {&layer.query(), &layer.key(), &layer.value(), &layer.output(),
                                       &layer.query_bias(), &layer.key_bias(), &layer.value_bias()}) {
    EXPECT_TRUE(Is(*tensor, {width++}, v1::TENSOR_KIND_F32));
  }
  EXPECT_FALSE(layer.has_output_bias());
}

TEST(Plan, SeedsAndNamesStay) {
  v1::AttendRequest request;
  request.mutable_self_attention()->mutable_seeded_embeddings()->set_tokens(9);
  request.mutable_self_attention()->mutable_seeded_weights()->set_seed(3);
  EXPECT_EQ(PlanRequestOf(request).self_attention().seeded_embeddings().tokens(), 9);
  EXPECT_EQ(PlanRequestOf(request).self_attention().seeded_weights().seed(), 3U);
  request.mutable_self_attention()->set_layer("");
  EXPECT_EQ(PlanRequestOf(request).self_attention().weights_case(), v1::SelfAttentionSpec::kLayer);
}

TEST(Plan, PartOfTheKeysStays) {
  v1::AttendRequest request;
  request.mutable_query_key_value()->mutable_part()->set_begin(3);
  request.mutable_query_key_value()->mutable_part()->set_total_keys(9);
  EXPECT_EQ(PlanRequestOf(request).query_key_value().part().begin(), 3U);
  EXPECT_EQ(PlanRequestOf(request).query_key_value().part().total_keys(), 9U);
}

TEST(Plan, OptionsLoseTheirTensorsAlone) {
  v1::AttendRequest request;
  request.mutable_options()->mutable_mask()->mutable_causal()->set_offset(2);
  *request.mutable_options()->mutable_mask()->mutable_tensor() = TensorOf({3}, v1::TENSOR_KIND_BOOL);
  *request.mutable_options()->mutable_position()->mutable_learned()->mutable_table() =
      TensorOf({9, 4}, v1::TENSOR_KIND_F32);
  request.mutable_options()->set_softcap(30);
  request.mutable_outputs()->add_maps()->mutable_full();
  const v1::PlanAttentionRequest plan = PlanRequestOf(request);
  EXPECT_TRUE(Is(plan.mask_tensor(), {3}, v1::TENSOR_KIND_BOOL));
  EXPECT_TRUE(Is(plan.learned_table(), {9, 4}, v1::TENSOR_KIND_F32));
  EXPECT_FALSE(plan.options().mask().has_tensor());
  EXPECT_EQ(plan.options().mask().causal().offset(), 2);
  EXPECT_TRUE(plan.options().position().has_learned());
  EXPECT_FALSE(plan.options().position().learned().has_table());
  EXPECT_EQ(plan.options().softcap(), 30);
  EXPECT_TRUE(plan.outputs().maps(0).has_full());
}

TEST(Plan, GoesThroughTheClient) {
  testing::FakeServer server;
  const auto client = *Client::Create({.address = server.address()});
  v1::PlanAttentionRequest request;
  request.mutable_options()->set_query_heads(8);
  const auto plan = client->PlanAttention(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->violations_size(), 1);
  EXPECT_EQ(server.last_plan().options().query_heads(), 8U);
  server.FailNext({grpc::StatusCode::UNAVAILABLE, "draining"});
  EXPECT_TRUE(client->PlanAttention(request).ok());
  server.FailNext({grpc::StatusCode::INVALID_ARGUMENT, "no"});
  EXPECT_EQ(client->PlanAttention(request).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace headlight::client
