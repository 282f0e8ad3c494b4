#include "server/layers/prune.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "server/base/errors.h"
#include "server/layers/load.h"
#include "tests/layers/files.h"

namespace headlight {
namespace {

using testing::FileOf;
using testing::FloatsOf;
using testing::Numbers;

// Hq query heads of 2 and Hkv key/value heads of 2; values of 3.
std::shared_ptr<const Layer> LayerOf(std::int64_t heads, std::int64_t groups, std::int64_t said) {
  FileHints hints;
  hints.query_heads = said;
  const auto file = LoadLayers(FileOf({{"query", Numbers({5, 2 * heads}, 1).Store()},
                                       {"key", Numbers({5, 2 * groups}, 2).Store()},
                                       {"value", Numbers({5, 3 * groups}, 3).Store()},
                                       {"output", Numbers({3 * heads, 7}, 4).Store()},
                                       {"query_bias", Numbers({2 * heads}, 5).Store()},
                                       {"value_bias", Numbers({3 * groups}, 6).Store()}}),
                               {"x", LayerOrigin::kFolder, hints}, Limits(), NoBudget);
  EXPECT_TRUE(file.ok()) << file.status();
  return file->layers[0];
}

LayerMatrices Pruned(const Layer& layer, const PrunePlan& plan) {
  LayerMatrices made;
  for (int i = 0; i < kLayerFields; ++i) {
    FieldOf(made, static_cast<LayerField>(i)) = PruneField(layer, plan, static_cast<LayerField>(i));
  }
  return made;
}

TEST(Prune, TakesHeadsOutOfEveryMatrix) {
  const auto layer = LayerOf(4, 4, 4);
  const auto plan = PlanPrune(*layer, {2, 0}, 0, 0);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->kept, (std::vector<std::int64_t>{1, 3}));
  EXPECT_EQ(plan->kept_key_value, plan->kept);
  const LayerMatrices made = Pruned(*layer, *plan);
  EXPECT_EQ(made.query.shape, (Shape{5, 4}));
  EXPECT_EQ(made.key.shape, (Shape{5, 4}));
  EXPECT_EQ(made.value.shape, (Shape{5, 6}));
  EXPECT_EQ(made.output.shape, (Shape{6, 7}));
  EXPECT_EQ(made.query_bias.shape, (Shape{4}));
  EXPECT_TRUE(made.key_bias.empty() && made.output_bias.empty());
  for (std::int64_t r = 0; r < 5; ++r) {
    for (std::int64_t c = 0; c < 2; ++c) {
      EXPECT_EQ(made.query.floats()[r * 4 + c], Numbers({}, 1).At(r, 2 + c));
      EXPECT_EQ(made.query.floats()[r * 4 + 2 + c], Numbers({}, 1).At(r, 6 + c));
      EXPECT_EQ(made.key.floats()[r * 4 + 2 + c], Numbers({}, 2).At(r, 6 + c));
    }
    for (std::int64_t c = 0; c < 3; ++c) EXPECT_EQ(made.value.floats()[r * 6 + 3 + c], Numbers({}, 3).At(r, 9 + c));
  }
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t c = 0; c < 7; ++c) {
      EXPECT_EQ(made.output.floats()[r * 7 + c], Numbers({}, 4).At(3 + r, c));
      EXPECT_EQ(made.output.floats()[(3 + r) * 7 + c], Numbers({}, 4).At(9 + r, c));
    }
  }
  EXPECT_EQ(made.query_bias.floats()[2], Numbers({}, 5).At(0, 6));
  std::int64_t bytes = 0;
  for (int i = 0; i < kLayerFields; ++i)
    bytes += static_cast<std::int64_t>(FieldOf(made, static_cast<LayerField>(i)).bytes.size());
  EXPECT_EQ(PrunedBytes(*layer, *plan, false), bytes);
  EXPECT_EQ(PrunedBytes(*layer, *plan, true), bytes + 7 * 4);
}

TEST(Prune, GroupsKeepAsManyOrGo) {
  const auto layer = LayerOf(6, 2, 6);
  auto plan = PlanPrune(*layer, {1, 4}, 0, 0);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->kept, (std::vector<std::int64_t>{0, 2, 3, 5}));
  EXPECT_EQ(plan->kept_key_value, (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(Pruned(*layer, *plan).key.shape, (Shape{5, 4}));
  plan = PlanPrune(*layer, {0, 1, 2, 4}, 0, 0);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->kept, (std::vector<std::int64_t>{3, 5}));
  EXPECT_EQ(plan->kept_key_value, (std::vector<std::int64_t>{1}));
  EXPECT_EQ(Pruned(*layer, *plan).value.shape, (Shape{5, 3}));
  EXPECT_EQ(FloatsOf(Pruned(*layer, *plan).value_bias)[0], Numbers({}, 6).At(0, 3));
  EXPECT_EQ(DetailsOf(PlanPrune(*layer, {1}, 0, 0).status()).violations[0].field, "heads");
}

TEST(Prune, WhatCannotBe) {
  const auto layer = LayerOf(4, 2, 0);
  const auto field = [&layer](const std::vector<std::int64_t>& heads, std::int64_t query, std::int64_t key_value) {
    return DetailsOf(PlanPrune(*layer, heads, query, key_value).status()).violations.at(0).field;
  };
  EXPECT_TRUE(PlanPrune(*layer, {0, 2}, 4, 0).ok());
  EXPECT_EQ(field({0}, 0, 0), "query_heads");
  EXPECT_EQ(field({0}, 3, 0), "query_heads");
  EXPECT_EQ(field({0}, 4, 4), "key_value_heads");
  EXPECT_EQ(field({}, 4, 0), "heads");
  EXPECT_EQ(field({0, 0}, 4, 0), "heads");
  EXPECT_EQ(field({4}, 4, 0), "heads");
  EXPECT_EQ(field({0, 1, 2, 3}, 4, 0), "heads");
  EXPECT_EQ(DetailsOf(PlanPrune(*LayerOf(4, 4, 4), {0}, 2, 0).status()).violations.at(0).field, "query_heads");
}

TEST(Prune, TheShiftIsAddedToTheOutputsBias) {
  LayerMatrices matrices;
  OwnedTensor shift = MakeTensor(TensorKind::kF32, {2});
  shift.floats()[1] = 0.5F;
  ShiftOutput({}, matrices);
  EXPECT_TRUE(matrices.output_bias.empty());
  ShiftOutput(shift, matrices);
  ShiftOutput(shift, matrices);
  EXPECT_EQ(FloatsOf(matrices.output_bias), (std::vector<float>{0, 1}));
}

TEST(Prune, IsAFileOfOurScheme) {
  const auto layer = LayerOf(2, 2, 2);
  const LayerMatrices made = Pruned(*layer, *PlanPrune(*layer, {1}, 0, 0));
  std::string file = HeaderOf(made);
  for (int i = 0; i < kLayerFields; ++i) file += FieldOf(made, static_cast<LayerField>(i)).bytes;
  FileHints hints;
  hints.query_heads = 1;
  const auto read = LoadLayers(file, {"y", LayerOrigin::kFolder, hints}, Limits(), NoBudget);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(FloatsOf(read->layers[0]->matrices().output), FloatsOf(made.output));
}

}  // namespace
}  // namespace headlight
