// Tiles and the choice of the algorithm: from a fixed table, by nothing but the problem.
#include "server/plan/planner.h"

#include <future>

#include "tests/plan/plans.h"

namespace headlight {
namespace {

struct TileCase {
  std::int64_t tq, tk, d, dv;
  bool causal;
  std::int64_t rows, keys;
};

// 64 rows; 512 keys, 256 where causal; K and V tiles of at most 32,768 floats; tails in steps of 16.
const TileCase kTiles[] = {
    {4096, 4096, 64, 64, false, 64, 512},  // the common ones
    {4096, 4096, 64, 64, true, 64, 256},   {4096, 4096, 128, 128, false, 64, 256},
    {4096, 4096, 128, 128, true, 64, 256}, {4096, 4096, 1, 1, false, 64, 512},    // narrow heads gain nothing
    {4096, 4096, 1, 1, true, 64, 256},     {4096, 4096, 65, 65, false, 64, 448},  // wide ones shrink the tile
    {4096, 4096, 80, 80, false, 64, 384},  {4096, 4096, 96, 96, false, 64, 320},
    {4096, 4096, 129, 129, true, 64, 192}, {4096, 4096, 256, 256, false, 64, 128},
    {4096, 4096, 512, 512, false, 64, 64}, {4096, 4096, 512, 512, true, 64, 64},
    {4096, 4096, 64, 512, false, 64, 64},                                  // the wider of the two decides
    {4096, 4096, 512, 64, false, 64, 64},  {1, 1, 64, 64, false, 16, 16},  // no larger than the problem, rounded up
    {16, 16, 64, 64, false, 16, 16},       {17, 17, 64, 64, false, 32, 32},
    {48, 100, 64, 64, false, 48, 112},     {49, 497, 64, 64, false, 64, 512},
    {63, 511, 64, 64, false, 64, 512},     {64, 512, 64, 64, false, 64, 512},
    {65, 513, 64, 64, false, 64, 512},     {1, 16384, 64, 64, false, 16, 512},
    {16384, 1, 64, 64, true, 64, 16},      {5, 255, 64, 64, true, 16, 256},
};

TEST(ChooseTile, FollowsItsTable) {
  for (const TileCase& row : kTiles) {
    ProblemRequest request = HeadMajorRequest({1, 1, 1, row.tq, row.tk, row.d, row.dv});
    if (row.causal) request = Causal(request);
    const TileSize tile = ChooseTile(Checked(request));
    EXPECT_EQ(tile.query_rows, row.rows) << row.tq << " rows, D " << row.d;
    EXPECT_EQ(tile.keys, row.keys) << row.tk << " keys, D " << row.d << " Dv " << row.dv << " causal " << row.causal;
  }
}

TEST(ChooseTile, IsAWholeNumberOfTailsForEveryHeadSize) {
  ProblemSpec spec = Checked(OneHead(4096, 1));
  for (std::int64_t d = 1; d <= 512; ++d) {
    for (const std::int64_t tokens : {1, 15, 16, 17, 64, 65, 300, 16384}) {
      spec.dims.head_size = spec.dims.value_head_size = d;
      spec.dims.query_tokens = spec.dims.key_tokens = tokens;
      const TileSize tile = ChooseTile(spec);
      ASSERT_TRUE(tile.query_rows >= kTailRows && tile.query_rows % kTailRows == 0) << d << " " << tokens;
      ASSERT_TRUE(tile.keys >= kTailKeys && tile.keys % kTailKeys == 0) << d << " " << tokens;
    }
  }
}

// Bits must not depend on how many heads or batches a call brings, nor on who asked for which algorithm or output.
TEST(ChooseTile, IgnoresBatchHeadsAlgorithmAndOutputs) {
  const TileSize expected = ChooseTile(Checked(OneHead(700, 80)));
  for (const std::int64_t batch : {1, 3}) {
    for (const std::int64_t heads : {1, 6, 128}) {
      for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
        ProblemRequest request = HeadMajorRequest({batch, heads, 1, 700, 700, 80, 80});
        request.algorithm = algorithm;
        request.outputs.log_sum_exp = batch > 1;
        request.outputs.maps.resize(heads > 1 ? 1 : 0);
        const TileSize tile = ChooseTile(Checked(request));
        EXPECT_EQ(tile.query_rows, expected.query_rows);
        EXPECT_EQ(tile.keys, expected.keys);
      }
    }
  }
}

TEST(MakePlan, TakesTheAlgorithmThatIsAskedFor) {
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    for (const std::int64_t tokens : {1, 4000}) {
      ProblemRequest request = OneHead(tokens, 8);
      request.algorithm = algorithm;
      EXPECT_EQ(PlanOf(request).algorithm, algorithm);
      EXPECT_EQ(PlanOf(request).reason, "asked for");
    }
  }
}

TEST(MakePlan, ChoosesNaiveWhereTheGridOfAHeadFitsOneTile) {
  struct Row {
    std::int64_t tq, tk, d;
    bool causal;
    Algorithm expected;
  };
  const Row rows[] = {{1, 1, 64, false, Algorithm::kNaive},    {64, 512, 64, false, Algorithm::kNaive},
                      {65, 512, 64, false, Algorithm::kFlash}, {64, 513, 64, false, Algorithm::kFlash},
                      {64, 256, 64, true, Algorithm::kNaive},  {64, 257, 64, true, Algorithm::kFlash},
                      {64, 64, 512, false, Algorithm::kNaive}, {64, 65, 512, false, Algorithm::kFlash},
                      {4096, 1, 64, false, Algorithm::kFlash}};
  for (const Row& row : rows) {
    for (const std::int64_t heads : {1, 64}) {  // what one head is decides, not how many there are
      ProblemRequest request = HeadMajorRequest({2, heads, 1, row.tq, row.tk, row.d, row.d});
      if (row.causal) request = Causal(request);
      const ExecutionPlan plan = PlanOf(request);
      EXPECT_EQ(plan.algorithm, row.expected) << row.tq << " x " << row.tk << " D " << row.d;
      EXPECT_NE(plan.reason.find(row.expected == Algorithm::kNaive ? "fits one tile" : "larger than a tile"),
                absl::string_view::npos);
    }
  }
}

// Every number of a plan.
std::vector<std::int64_t> NumbersOf(const ExecutionPlan& plan) {
  return {static_cast<std::int64_t>(plan.algorithm),
          plan.tile.query_rows,
          plan.tile.keys,
          plan.projection_blocks.rows,
          plan.projection_blocks.columns,
          plan.bytes.scratch_per_lane,
          plan.bytes.grid,
          plan.bytes.packed,
          plan.bytes.projection,
          plan.flops,
          plan.score_grid_bytes,
          plan.response_bytes};
}

TEST(MakePlan, DependsOnNothingButTheProblem) {
  for (const ProblemRequest& request :
       {OneHead(700, 80), Causal(HeadMajorRequest()), LayerRequest(), CrossRequest(), SeededRequest()}) {
    const std::vector<std::int64_t> first = NumbersOf(PlanOf(request));
    PlanOf(OneHead(16384, 512));  // what was planned before does not matter
    Limits wide;                  // nor how much room there is
    wide.max_flops *= 100;
    wide.max_workspace_bytes *= 7;
    wide.max_reference_flops = 1;
    EXPECT_EQ(NumbersOf(PlanOf(request, wide)), first);
    // nor which thread asks
    EXPECT_EQ(std::async(std::launch::async, [&request] { return NumbersOf(PlanOf(request)); }).get(), first);
  }
}

TEST(MakePlan, KeepsTheProblem) {
  const ExecutionPlan plan = PlanOf(Causal(CrossRequest()));
  EXPECT_EQ(plan.spec.dims.key_tokens, 7);
  EXPECT_EQ(plan.spec.projection->context_width, 12);
  EXPECT_EQ(plan.spec.mask.causal, CausalAlignment::kTopLeft);
}

// One block of a projection is a unit of work: 64 x 2048 x 256 x 2 FLOPs are under a millisecond.
TEST(MakePlan, BlocksProjectionsByTheirDepthAlone) {
  const std::pair<std::int64_t, std::int64_t> rows_by_width[] = {{2, 64},    {2048, 64}, {2050, 32},
                                                                 {4096, 32}, {4098, 8},  {16384, 8}};
  for (const auto& [width, rows] : rows_by_width) {
    for (const std::int64_t tokens : {1, 300}) {
      ProblemRequest request = SplitHeads(2, 64, width, tokens);
      const ProjectionBlocks blocks = PlanOf(request).projection_blocks;
      EXPECT_EQ(blocks.rows, rows) << width;
      EXPECT_EQ(blocks.columns, 256) << width;
      EXPECT_LE(blocks.rows * width * blocks.columns * 2, 67'108'864) << width;
    }
  }
}

}  // namespace
}  // namespace headlight
