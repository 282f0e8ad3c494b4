#include "server/layers/layer.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "server/problem/spec.h"

namespace headlight {
namespace {

TEST(FindLayer, KnowsTheBuiltInLayerAndNoOther) {
  const Layer* demo = FindLayer("demo");
  ASSERT_NE(demo, nullptr);
  EXPECT_EQ(demo->name(), "demo");
  EXPECT_EQ(FindLayer("demo"), demo);
  for (const char* name : {"", "Demo", "demo ", "demo\n", "gpt2"}) EXPECT_EQ(FindLayer(name), nullptr) << name;
}

TEST(LayerNames, AreAllFound) {
  EXPECT_EQ(LayerNames(), std::vector<std::string>{"demo"});
  for (const std::string& name : LayerNames()) {
    ASSERT_NE(FindLayer(name), nullptr);
    EXPECT_EQ(FindLayer(name)->name(), name);
  }
}

TEST(Layer, GivesFormsAndViewsOfItsMatrices) {
  OwnedTensor query = MakeTensor(TensorKind::kF32, {3, 8});
  query.floats()[5] = 1.5F;
  const Layer layer("one", 4, std::move(query), MakeTensor(TensorKind::kF32, {3, 8}),
                    MakeTensor(TensorKind::kF32, {3, 4}), MakeTensor(TensorKind::kF32, {4, 7}));
  const LayerForm form = layer.form();
  EXPECT_EQ(form.query->shape, (Shape{3, 8}));
  EXPECT_EQ(form.query->payload_bytes, 96);
  EXPECT_EQ(form.key->shape, (Shape{3, 8}));
  EXPECT_EQ(form.value->shape, (Shape{3, 4}));
  EXPECT_EQ(form.output->shape, (Shape{4, 7}));
  EXPECT_EQ(form.query->kind, TensorKind::kF32);
  EXPECT_EQ(form.query_heads, 4);
  EXPECT_EQ(form.key_value_heads, 4);
  EXPECT_FALSE(form.query_bias.has_value() || form.output_bias.has_value());
  const LayerViews views = layer.views();
  EXPECT_EQ(reinterpret_cast<const float*>(views.query.data)[5], 1.5F);
  EXPECT_EQ(views.output.shape, (Shape{4, 7}));
  EXPECT_TRUE(views.query_bias.empty() && views.key_bias.empty() && views.value_bias.empty());
  EXPECT_TRUE(views.output_bias.empty());
}

// The form of every layer must pass the check that the same matrices would have to pass if they were sent.
TEST(Layers, AreWellFormed) {
  for (const std::string& name : LayerNames()) {
    const LayerForm form = FindLayer(name)->form();
    SelfAttentionForm input;
    input.embeddings = TensorForm{TensorKind::kF32, {5, form.query->shape[0]}, {}};
    input.layer = form;
    input.layer_name = name;
    ProblemRequest request;
    for (const WeightsSource source : {WeightsSource::kNamed, WeightsSource::kExplicit}) {
      input.weights = source;
      request.input = input;
      request.query_heads = form.query_heads;
      const auto spec = CheckProblem(request, Limits());
      ASSERT_TRUE(spec.ok()) << spec.status();
      EXPECT_EQ(spec->dims.query_heads, form.query_heads);
    }
  }
}

}  // namespace
}  // namespace headlight
