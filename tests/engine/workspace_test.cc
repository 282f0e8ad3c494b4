// What attention takes beside input and output, with either algorithm.
#include <gtest/gtest.h>

#include "server/engine/attention.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Problem;
using oracle::RunEngine;

TEST(Workspace, FlashNeedsNoMoreScratchForMoreTokens) {
  std::int64_t scratch[2] = {};
  for (const int i : {0, 1}) {
    Problem p;
    p.tq = p.tk = i == 0 ? 1024 : 4096;
    p.hq = p.hkv = 1;
    p.d = p.dv = 64;
    const auto ran = RunEngine(*Bind(p), Algorithm::kFlash);
    ASSERT_TRUE(ran.ok());
    scratch[i] = (*ran)->record.scratch_bytes / (*ran)->record.workers;
    EXPECT_LE(scratch[i], std::int64_t{1} << 20);
    EXPECT_EQ((*ran)->record.packed_bytes, (*ran)->plan.bytes.packed);
    EXPECT_LE((*ran)->record.packed_bytes, kMaxPackedBytes);
  }
  EXPECT_EQ(scratch[0], scratch[1]);
}

// Whatever is asked for: maps made after attention keep two numbers a row, and nothing else grows.
TEST(Workspace, FlashBuildsNoGridForAnyMap) {
  Problem p;
  p.tq = p.tk = 3000;
  p.hq = p.hkv = 1;
  p.outputs.maps.resize(4);
  p.outputs.maps[0].pooled = PooledForm{10, 10, PoolReducer::kMean};
  p.outputs.maps[1].column_sums = true;
  p.outputs.maps[2].top_k = 3;
  p.outputs.maps[3].top_k = 3;
  p.outputs.maps[3].stage = MapStage::kScaled;
  p.outputs.head_statistics = true;
  const auto ran = RunEngine(*Bind(p), Algorithm::kFlash);
  ASSERT_TRUE(ran.ok()) << ran.status();
  const ExecutionPlan& plan = (*ran)->plan;
  EXPECT_EQ((*ran)->record.scratch_bytes,
            plan.bytes.scratch_per_lane * (*ran)->record.workers + 3000 * static_cast<std::int64_t>(sizeof(RowNorm)));
  EXPECT_LT((*ran)->record.workspace_bytes, plan.score_grid_bytes / 8);
}

TEST(Workspace, NaiveHoldsTheGrid) {
  Problem p;
  p.tq = p.tk = 500;
  const auto ran = RunEngine(*Bind(p), Algorithm::kNaive);
  ASSERT_TRUE(ran.ok());
  EXPECT_GE((*ran)->record.scratch_bytes, (*ran)->plan.score_grid_bytes);
  EXPECT_EQ((*ran)->plan.score_grid_bytes, 2 * 500 * 500 * 4);
}

TEST(Workspace, StaysWithinThePlan) {
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    Problem p;
    p.e = 48;
    p.eo = 32;
    p.tq = p.tk = 200;
    p.kind = TensorKind::kF16;
    p.position.kind = PositionKind::kRotary;
    const auto ran = RunEngine(*Bind(p), algorithm);
    ASSERT_TRUE(ran.ok()) << ran.status();
    const ExecutionPlan& plan = (*ran)->plan;
    const ExecutionRecord& record = (*ran)->record;
    EXPECT_EQ(record.projection_bytes, plan.bytes.projection);
    EXPECT_EQ(record.packed_bytes, plan.bytes.packed);
    EXPECT_EQ(record.scratch_bytes, plan.bytes.scratch_per_lane * record.workers + plan.bytes.grid);
    EXPECT_LE(record.workspace_bytes, plan.WorkspaceTotal(record.workers));
  }
}

}  // namespace
}  // namespace headlight
