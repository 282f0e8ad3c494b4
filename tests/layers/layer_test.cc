#include "server/layers/layer.h"

#include <gtest/gtest.h>

#include <utility>

namespace headlight {
namespace {

TEST(Layer, GivesFormsAndViewsOfItsMatrices) {
  LayerMatrices matrices;
  matrices.query = MakeTensor(TensorKind::kF32, {3, 8});
  matrices.query.floats()[5] = 1.5F;
  matrices.key = MakeTensor(TensorKind::kF32, {3, 8});
  matrices.value = MakeTensor(TensorKind::kF32, {3, 4});
  matrices.output = MakeTensor(TensorKind::kF32, {4, 7});
  matrices.output_bias = MakeTensor(TensorKind::kF32, {7});
  LayerFacts facts;
  facts.name = "one";
  const Layer layer(std::move(facts), 4, 2, std::move(matrices));
  const LayerForm form = layer.form();
  EXPECT_EQ(layer.name(), "one");
  EXPECT_EQ(form.query->shape, (Shape{3, 8}));
  EXPECT_EQ(form.query->payload_bytes, 96);
  EXPECT_EQ(form.key->shape, (Shape{3, 8}));
  EXPECT_EQ(form.value->shape, (Shape{3, 4}));
  EXPECT_EQ(form.output->shape, (Shape{4, 7}));
  EXPECT_EQ(form.output_bias->shape, (Shape{7}));
  EXPECT_EQ(form.query->kind, TensorKind::kF32);
  EXPECT_EQ(form.query_heads, 4);
  EXPECT_EQ(form.key_value_heads, 2);
  EXPECT_FALSE(form.query_bias.has_value() || form.key_bias.has_value() || form.value_bias.has_value());
  const LayerViews views = layer.views();
  EXPECT_EQ(reinterpret_cast<const float*>(views.query.data)[5], 1.5F);
  EXPECT_EQ(views.output.shape, (Shape{4, 7}));
  EXPECT_TRUE(views.query_bias.empty() && views.key_bias.empty() && views.value_bias.empty());
  EXPECT_FALSE(views.output_bias.empty());
  EXPECT_EQ(layer.bytes(), 4 * (3 * 8 + 3 * 8 + 3 * 4 + 4 * 7 + 7));
}

}  // namespace
}  // namespace headlight
