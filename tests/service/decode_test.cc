#include "server/service/decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "server/base/errors.h"

namespace headlight {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// The fields of the violations that decoding alone found.
std::vector<std::string> FieldsOf(const DecodedCall& call) {
  std::vector<std::string> fields;
  for (const Violation& violation : DetailsOf(call.request.violations.ToStatus()).violations) {
    fields.push_back(violation.field);
  }
  return fields;
}

v1::Tensor MakeFloats(const std::vector<std::int64_t>& shape, std::size_t count) {
  v1::Tensor tensor;
  tensor.mutable_shape()->Add(shape.begin(), shape.end());
  tensor.set_f32_le(std::string(count * sizeof(float), '\0'));
  return tensor;
}

const std::byte* BytesOf(const std::string& text) { return reinterpret_cast<const std::byte*>(text.data()); }

TEST(DecodeTensor, ReadsEveryKindWithoutCopying) {
  v1::AttendRequest message;
  const auto decode = [&message](const v1::Tensor& tensor) {
    *message.mutable_query_key_value()->mutable_query() = tensor;
    return Decode(message, LayerStore());
  };
  v1::Tensor tensor;
  tensor.add_shape(2);
  tensor.add_shape(3);

  tensor.set_f32_le(std::string(24, 'a'));
  DecodedCall call = decode(tensor);
  const v1::Tensor& held = message.query_key_value().query();
  EXPECT_EQ(call.data.query.kind, TensorKind::kF32);
  EXPECT_EQ(call.data.query.data, BytesOf(held.f32_le()));
  EXPECT_THAT(call.data.query.shape, ElementsAre(2, 3));

  tensor.set_f16_le(std::string(12, 'b'));
  call = decode(tensor);
  EXPECT_EQ(call.data.query.kind, TensorKind::kF16);
  EXPECT_EQ(call.data.query.data, BytesOf(held.f16_le()));

  tensor.set_bf16_le(std::string(12, 'c'));
  call = decode(tensor);
  EXPECT_EQ(call.data.query.kind, TensorKind::kBF16);
  EXPECT_EQ(call.data.query.data, BytesOf(held.bf16_le()));

  tensor.set_bool_u8(std::string(6, 'd'));
  call = decode(tensor);
  EXPECT_EQ(call.data.query.kind, TensorKind::kBool);
  EXPECT_EQ(call.data.query.data, BytesOf(held.bool_u8()));
  EXPECT_THAT(FieldsOf(call), IsEmpty());
}

TEST(DecodeTensor, ReadsFloatsGivenAsNumbers) {
  v1::AttendRequest message;
  v1::Tensor& tensor = *message.mutable_query_key_value()->mutable_query();
  tensor.add_shape(3);
  for (const float value : {1.0F, -2.5F, 3.0F}) tensor.mutable_f32_values()->add_values(value);
  const DecodedCall call = Decode(message, LayerStore());
  const auto& form = std::get<QueryKeyValueForm>(call.request.input);
  EXPECT_EQ(form.query->kind, TensorKind::kF32);
  EXPECT_EQ(form.query->payload_bytes, 12);
  EXPECT_EQ(reinterpret_cast<const float*>(call.data.query.data)[1], -2.5F);
}

TEST(DecodeTensor, CountsBytesAsTheyCame) {
  v1::AttendRequest message;
  v1::Tensor& tensor = *message.mutable_query_key_value()->mutable_key();
  tensor.add_shape(-7);
  tensor.set_f16_le("odd");
  const DecodedCall call = Decode(message, LayerStore());
  const auto& form = std::get<QueryKeyValueForm>(call.request.input);
  EXPECT_FALSE(form.query.has_value());
  EXPECT_EQ(form.key->payload_bytes, 3);
  EXPECT_THAT(form.key->shape, ElementsAre(-7));
}

TEST(DecodeTensor, WithoutDataCountsAsFloatsOfNoBytes) {
  v1::AttendRequest message;
  message.mutable_query_key_value()->mutable_value()->add_shape(4);
  const DecodedCall call = Decode(message, LayerStore());
  const auto& form = std::get<QueryKeyValueForm>(call.request.input);
  EXPECT_EQ(form.value->kind, TensorKind::kF32);
  EXPECT_EQ(form.value->payload_bytes, 0);
  EXPECT_TRUE(call.data.value.empty());
}

TEST(Decode, NothingIsReportedOnce) {
  const DecodedCall call = Decode(v1::AttendRequest(), LayerStore());
  EXPECT_TRUE(std::holds_alternative<std::monostate>(call.request.input));
  EXPECT_THAT(FieldsOf(call), ElementsAre("input"));
}

TEST(Decode, SelfAttentionWithALayer) {
  v1::AttendRequest message;
  v1::SelfAttention& self = *message.mutable_self_attention();
  *self.mutable_embeddings() = MakeFloats({2, 3}, 6);
  *self.mutable_context() = MakeFloats({4, 5}, 20);
  v1::LayerWeights& layer = *self.mutable_layer_weights();
  *layer.mutable_query() = MakeFloats({3, 1}, 3);
  *layer.mutable_output() = MakeFloats({1, 9}, 9);
  *layer.mutable_value_bias() = MakeFloats({1}, 1);
  const DecodedCall call = Decode(message, LayerStore());
  const auto& form = std::get<SelfAttentionForm>(call.request.input);
  EXPECT_EQ(form.weights, WeightsSource::kExplicit);
  EXPECT_THAT(form.embeddings->shape, ElementsAre(2, 3));
  EXPECT_THAT(form.context->shape, ElementsAre(4, 5));
  EXPECT_THAT(form.layer->query->shape, ElementsAre(3, 1));
  EXPECT_THAT(form.layer->output->shape, ElementsAre(1, 9));
  EXPECT_THAT(form.layer->value_bias->shape, ElementsAre(1));
  EXPECT_FALSE(form.layer->key.has_value());
  EXPECT_FALSE(form.layer->query_bias.has_value());
  EXPECT_EQ(call.data.embeddings.data, BytesOf(self.embeddings().f32_le()));
  EXPECT_EQ(call.data.context.data, BytesOf(self.context().f32_le()));
  EXPECT_EQ(call.data.layer.query.data, BytesOf(layer.query().f32_le()));
  EXPECT_EQ(call.data.layer.value_bias.data, BytesOf(layer.value_bias().f32_le()));
  EXPECT_TRUE(call.data.layer.key.empty());
}

TEST(Decode, SeededSourcesKeepEveryBitOfTheirSeeds) {
  v1::AttendRequest message;
  v1::SelfAttention& self = *message.mutable_self_attention();
  self.mutable_seeded_embeddings()->set_seed(~std::uint64_t{0});
  self.mutable_seeded_embeddings()->set_tokens(-5);
  self.mutable_seeded_embeddings()->set_width(7);
  self.mutable_seeded_weights()->set_seed(std::uint64_t{1} << 63);
  const DecodedCall call = Decode(message, LayerStore());
  const auto& form = std::get<SelfAttentionForm>(call.request.input);
  EXPECT_FALSE(form.embeddings.has_value());
  EXPECT_EQ(form.embeddings_seed, ~std::uint64_t{0});
  EXPECT_EQ(form.seeded_tokens, -5);
  EXPECT_EQ(form.seeded_width, 7);
  EXPECT_EQ(form.weights, WeightsSource::kSeeded);
  EXPECT_EQ(form.weights_seed, std::uint64_t{1} << 63);
  EXPECT_TRUE(call.data.embeddings.empty());
}

TEST(Decode, ANamedLayerBringsItsFormAndData) {
  v1::AttendRequest message;
  *message.mutable_self_attention()->mutable_embeddings() = MakeFloats({2, 16}, 32);
  message.mutable_self_attention()->set_layer("demo");
  const DecodedCall call = Decode(message, LayerStore());
  const auto& form = std::get<SelfAttentionForm>(call.request.input);
  EXPECT_EQ(form.weights, WeightsSource::kNamed);
  EXPECT_EQ(form.layer_name, "demo");
  ASSERT_TRUE(form.layer.has_value());
  EXPECT_EQ(form.layer->query_heads, 3);
  EXPECT_FALSE(call.data.layer.query.empty());
}

TEST(Decode, AnUnknownLayerIsLeftToTheCheck) {
  v1::AttendRequest message;
  *message.mutable_self_attention()->mutable_embeddings() = MakeFloats({2, 16}, 32);
  message.mutable_self_attention()->set_layer("nobody's");
  const DecodedCall call = Decode(message, LayerStore());
  const auto& form = std::get<SelfAttentionForm>(call.request.input);
  EXPECT_EQ(form.layer_name, "nobody's");
  EXPECT_FALSE(form.layer.has_value());
  EXPECT_THAT(FieldsOf(call), IsEmpty());
}

TEST(Decode, MissingPartsOfSelfAttention) {
  v1::AttendRequest message;
  message.mutable_self_attention();
  EXPECT_THAT(FieldsOf(Decode(message, LayerStore())),
              ElementsAre("self_attention.embeddings", "self_attention.weights"));
  *message.mutable_self_attention()->mutable_embeddings() = MakeFloats({2, 3}, 6);
  EXPECT_THAT(FieldsOf(Decode(message, LayerStore())), ElementsAre("self_attention.weights"));
}

TEST(Decode, PriorityAndTokens) {
  v1::AttendRequest message;
  message.mutable_query_key_value();
  message.add_tokens("The");
  message.add_tokens("cat");
  for (const v1::Priority known : {v1::PRIORITY_UNSPECIFIED, v1::PRIORITY_INTERACTIVE, v1::PRIORITY_BATCH}) {
    message.set_priority(known);
    EXPECT_THAT(FieldsOf(Decode(message, LayerStore())), IsEmpty());
  }
  for (const int unknown : {-1, 3, 1 << 30}) {
    message.set_priority(static_cast<v1::Priority>(unknown));
    EXPECT_THAT(FieldsOf(Decode(message, LayerStore())), ElementsAre("priority"));
  }
  EXPECT_THAT(Decode(message, LayerStore()).request.tokens, ElementsAre("The", "cat"));
}

TEST(Decode, ACompareRequestIsReadLikeAnAttendRequest) {
  v1::AttendRequest message;
  *message.mutable_query_key_value()->mutable_query() = MakeFloats({2, 3}, 6);
  message.mutable_options()->set_query_heads(3);
  message.mutable_outputs()->set_log_sum_exp(true);
  message.set_priority(static_cast<v1::Priority>(9));
  message.add_tokens("x");
  v1::CompareAlgorithmsRequest same;
  ASSERT_TRUE(same.ParseFromString(message.SerializeAsString()));
  EXPECT_EQ(same.GetReflection()->GetUnknownFields(same).field_count(), 0);
  const DecodedCall call = Decode(same, LayerStore());
  EXPECT_THAT(std::get<QueryKeyValueForm>(call.request.input).query->shape, ElementsAre(2, 3));
  EXPECT_EQ(call.request.query_heads, 3);
  EXPECT_TRUE(call.request.outputs.log_sum_exp);
  EXPECT_THAT(FieldsOf(call), ElementsAre("priority"));
  EXPECT_THAT(call.request.tokens, ElementsAre("x"));
}

TEST(Decode, APlansTableWithoutItsSchemeIsNoTensorOfTheCall) {
  v1::PlanAttentionRequest message;
  message.mutable_query_key_value();
  message.mutable_learned_table()->add_shape(std::int64_t{1} << 61);
  message.mutable_learned_table()->set_kind(v1::TENSOR_KIND_F32);
  EXPECT_THAT(FieldsOf(Decode(message, LayerStore())), ElementsAre("learned_table"));
  EXPECT_FALSE(Decode(message, LayerStore()).request.position.table.has_value());
  message.mutable_options()->mutable_position()->mutable_learned();
  EXPECT_THAT(FieldsOf(Decode(message, LayerStore())), IsEmpty());
  EXPECT_TRUE(Decode(message, LayerStore()).request.position.table.has_value());
}

}  // namespace
}  // namespace headlight
