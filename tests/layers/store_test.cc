#include "server/layers/store.h"

#include <gtest/gtest.h>

#include <memory>

#include "server/problem/spec.h"

namespace headlight {
namespace {

TEST(LayerStore, KnowsTheBuiltInLayerAndNoOther) {
  const LayerStore store;
  const std::shared_ptr<const Layer> demo = store.FindLayer("demo");
  ASSERT_NE(demo, nullptr);
  EXPECT_EQ(demo->name(), "demo");
  EXPECT_EQ(store.FindLayer("demo"), demo);
  for (const char* name : {"", "Demo", "demo ", "demo\n", "gpt2"}) EXPECT_EQ(store.FindLayer(name), nullptr) << name;
}

// The form of every layer must pass the check that the same matrices would have to pass if they were sent.
TEST(LayerStore, HoldsLayersThatAreWellFormed) {
  const LayerStore store;
  EXPECT_FALSE(store.layers().empty());
  for (const auto& layer : store.layers()) {
    EXPECT_EQ(store.FindLayer(layer->name()), layer);
    const LayerForm form = layer->form();
    SelfAttentionForm input;
    input.embeddings = TensorForm{TensorKind::kF32, {5, form.query->shape[0]}, {}};
    input.layer = form;
    input.layer_name = layer->name();
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
