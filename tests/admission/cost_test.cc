#include "server/admission/cost.h"

#include <gtest/gtest.h>

namespace headlight {
namespace {

CallCost Flops(double flops, CostKind kind = CostKind::kFlash) {
  CallCost cost;
  cost.kind = kind;
  cost.flops = static_cast<std::int64_t>(flops);
  return cost;
}

TEST(CostModel, GoesByItsFirstRateUntilItLearns) {
  const CostModel model(1e10);
  EXPECT_NEAR(model.WorkerSeconds(Flops(5e10)), 5, 0.01);
  // The smallest call takes something.
  EXPECT_GT(model.WorkerSeconds(Flops(0)), 1e-6);
  EXPECT_LT(model.WorkerSeconds(Flops(0)), 1e-3);
}

TEST(CostModel, TheFirstCallSetsAllClassesOfItsKind) {
  CostModel model(1e10);
  model.Learn(Flops(1e10), 0.1);  // 100 GFLOP/s
  for (const double flops : {1e8, 1e10, 1e12}) {
    EXPECT_NEAR(model.WorkerSeconds(Flops(flops)), flops / 1e11, 0.01 * flops / 1e11 + 1e-4) << flops;
  }
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e10, CostKind::kNaive)), 1, 0.01);  // of which nothing is known
  // A class that has been learned keeps to itself.
  model.Learn(Flops(1e8), 0.01);
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e8)), 0.01, 0.001);
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e10)), 0.1, 0.01);
}

TEST(CostModel, FollowsWhatCallsTakeAndForgivesOneThatIsOdd) {
  CostModel model(1e10);
  model.Learn(Flops(1e10), 0.1);
  model.Learn(Flops(1e10), 10);  // a processor that was stolen
  EXPECT_LT(model.WorkerSeconds(Flops(1e10)), 0.14);
  for (int i = 0; i < 40; ++i) model.Learn(Flops(1e10), 0.5);
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e10)), 0.5, 0.01);
}

// A machine that was busy when the server started must not look slow for ever to calls that were refused since.
TEST(CostModel, TheLoadOfTheMachineTellsOfAllClasses) {
  CostModel model(1e10);
  model.Learn(Flops(1e12), 100);
  model.Learn(Flops(1e8), 0.01);
  for (int i = 0; i < 40; ++i) model.Learn(Flops(1e8), 0.001);
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e8)), 0.001, 1e-4);
  EXPECT_LT(model.WorkerSeconds(Flops(1e12)), 40);
}

// A flood of calls that are mostly overhead once made a call of 16,384 tokens look too expensive on an idle machine.
TEST(CostModel, SmallCallsDoNotMakeLargeOnesLookSlow) {
  CostModel model(1e10);
  model.Learn(Flops(5e8), 0.005);  // 100 GFLOP/s
  const double large = model.WorkerSeconds(Flops(1e12));
  for (int i = 0; i < 1000; ++i) {
    model.Learn(Flops(1e6), 0.0003);
    model.Learn(Flops(2e8), 0.02);  // 10 GFLOP/s
  }
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e12)), large, 0.01 * large);
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e6)), 0.0003, 0.0002);
  EXPECT_NEAR(model.WorkerSeconds(Flops(2e8)), 0.02, 0.002);
}

TEST(CostModel, MediumAndLargeCallsFeelTheSameLoad) {
  CostModel model(1e10);
  model.Learn(Flops(1e10), 0.1);
  model.Learn(Flops(1e12), 10);
  for (int i = 0; i < 40; ++i) model.Learn(Flops(1e10), 0.4);
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e12)), 20, 1);  // half as far, of a factor of 4
}

TEST(CostModel, TheOverheadOfACallIsLearned) {
  CostModel model(1e11);
  for (int i = 0; i < 40; ++i) model.Learn(Flops(1e4), 0.0004);
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e4)), 0.0004, 1e-5);
  for (int i = 0; i < 400; ++i) model.Learn(Flops(1e4), 1);  // a thief, not overhead
  EXPECT_LE(model.WorkerSeconds(Flops(1e4)), 0.0011);
}

TEST(CostModel, TellsNothingFromCallsThatAreAllOverhead) {
  CostModel model(1e10);
  model.Learn(Flops(1e4), 60e-6);
  model.Learn(Flops(1e4), 1e-9);
  EXPECT_NEAR(model.WorkerSeconds(Flops(5e10)), 5, 0.01);
}

TEST(CostModel, TheReferenceHasARateOfItsOwn) {
  CostModel model(1e10);
  CallCost compared = Flops(1e9, CostKind::kNaive);
  compared.reference_flops = 2'000'000'000;
  const double before = model.WorkerSeconds(compared);
  EXPECT_GT(before, 1);
  model.Learn(compared, 4.1);
  EXPECT_NEAR(model.WorkerSeconds(compared), 4.1, 0.01);
  EXPECT_NEAR(model.WorkerSeconds(Flops(1e9, CostKind::kNaive)), 0.1, 0.01);
}

TEST(CostModel, ACallUsesNoMoreWorkersThanItHasUnits) {
  EXPECT_EQ(CostModel::Lanes(Flops(1e6), 8), 1);
  EXPECT_EQ(CostModel::Lanes(Flops(1e12), 8), 8);
  EXPECT_EQ(CostModel::Lanes(Flops(1e12), 1), 1);
}

}  // namespace
}  // namespace headlight
