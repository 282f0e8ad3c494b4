// Tiles and the choice of the algorithm: from a fixed table, by nothing but the problem.
#include "server/plan/planner.h"

#include <future>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/plan/plans.h"

namespace headlight {
namespace {

struct TileCase {
  std::int64_t tq, tk, d, dv;
  bool causal;
  std::int64_t rows, keys;
};

// 128 rows; 512 keys, 256 where causal; K and V tiles of at most 32,768 numbers; a lane's scratch of at most 1 MiB;
// tails in steps of 16.
const TileCase kTiles[] = {
    {4096, 4096, 64, 64, false, 128, 512},  // the common ones
    {4096, 4096, 64, 64, true, 128, 256},   {4096, 4096, 128, 128, false, 128, 256},
    {4096, 4096, 128, 128, true, 128, 256}, {4096, 4096, 1, 1, false, 128, 512},    // narrow heads gain nothing
    {4096, 4096, 1, 1, true, 128, 256},     {4096, 4096, 65, 65, false, 128, 448},  // wide ones shrink it
    {4096, 4096, 80, 80, false, 128, 384},  {4096, 4096, 96, 96, false, 128, 320},
    {4096, 4096, 129, 129, true, 128, 192}, {4096, 4096, 256, 256, false, 128, 128},
    {4096, 4096, 512, 512, false, 128, 64}, {4096, 4096, 512, 512, true, 128, 64},

    {4096, 4096, 64, 512, false, 128, 64},                                  // the wider of the two decides
    {4096, 4096, 512, 64, false, 128, 64},  {1, 1, 64, 64, false, 16, 16},  // no larger than the problem
    {16, 16, 64, 64, false, 16, 16},        {17, 17, 64, 64, false, 32, 32},
    {48, 100, 64, 64, false, 48, 112},      {113, 497, 64, 64, false, 128, 512},
    {127, 511, 64, 64, false, 128, 512},    {128, 512, 64, 64, false, 128, 512},
    {129, 513, 64, 64, false, 128, 512},    {1, 16384, 64, 64, false, 16, 512},
    {16384, 1, 64, 64, true, 128, 16},      {5, 255, 64, 64, true, 16, 256},
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

struct HeadsCase {
  std::int64_t hq, hkv, tq, tk;
  std::int64_t group, key_value_heads, rows;  // rows: of the tile, one stack
};

// Query heads of one key/value head share a tile while their rows fit 128; whole stacks lie side by side up to 128
// rows, where the keys are one tile.
const HeadsCase kHeads[] = {
    {8, 8, 512, 512, 1, 1, 128},  // a head fills its tiles
    {8, 8, 128, 128, 1, 1, 128}, {8, 8, 65, 65, 1, 1, 80},    {8, 8, 64, 64, 1, 2, 64}, {8, 8, 16, 16, 1, 8, 16},
    {8, 8, 1, 64, 1, 8, 16},     {8, 8, 1, 512, 1, 1, 16},    {8, 8, 1, 513, 1, 1, 16},  // two tiles of keys
    {8, 2, 1, 4096, 4, 1, 16},   {71, 1, 1, 4096, 71, 1, 80},  // grouped and multi-query decoding
    {8, 2, 32, 4096, 4, 1, 128}, {8, 1, 32, 4096, 4, 1, 128},  // half of the group at a time
    {8, 2, 16, 16, 4, 2, 64},    {8, 2, 200, 200, 1, 1, 128},
};

TEST(ChooseTileHeads, FollowsItsTable) {
  for (const HeadsCase& row : kHeads) {
    const ExecutionPlan plan = PlanOf(HeadMajorRequest({2, row.hq, row.hkv, row.tq, row.tk, 64, 64}));
    const std::string name = absl::StrCat(row.hq, "/", row.hkv, " heads, ", row.tq, " x ", row.tk);
    EXPECT_EQ(plan.tile_heads.group, row.group) << name;
    EXPECT_EQ(plan.tile_heads.key_value_heads, row.key_value_heads) << name;
    EXPECT_EQ(plan.tile.query_rows, row.rows) << name;
    EXPECT_LE(plan.bytes.scratch_per_lane, std::int64_t{1} << 20) << name;
  }
}

TEST(MakePlan, ChoosesFlashAndSaysWhatThatSaves) {
  struct Row {
    std::int64_t tq, tk, d;
    bool causal, one_tile;
  };
  const Row rows[] = {{1, 1, 64, false, true},     {128, 512, 64, false, true}, {129, 512, 64, false, false},
                      {64, 513, 64, false, false}, {64, 256, 64, true, true},   {64, 257, 64, true, false},
                      {64, 64, 512, false, true},  {64, 65, 512, false, false}, {4096, 1, 64, false, false}};
  for (const Row& row : rows) {
    for (const std::int64_t heads : {1, 64}) {
      ProblemRequest request = HeadMajorRequest({2, heads, heads, row.tq, row.tk, row.d, row.d});
      if (row.causal) request = Causal(request);
      const ExecutionPlan plan = PlanOf(request);
      EXPECT_EQ(plan.algorithm, Algorithm::kFlash) << row.tq << " x " << row.tk << " D " << row.d;
      EXPECT_NE(plan.reason.find(row.one_tile ? "fits one tile" : "larger than a tile"), absl::string_view::npos)
          << row.tq << " x " << row.tk << " D " << row.d;
    }
  }
}

// What products take is made once where it fits 16 MiB, else by tile.
TEST(MakePlan, PacksUpToABound) {
  const std::int64_t fits = kMaxPackedBytes / (2 * 64 * 4);  // tokens of one head of 64, K and V in float32
  const auto plan = [](std::int64_t tokens, TensorKind kind, bool bf16) {
    ProblemSpec spec = Checked(HeadMajorRequest({1, 1, 1, 16, 16, 64, 64}, kind));
    spec.precision = bf16 ? ComputePrecision::kBFloat16 : ComputePrecision::kFloat32;
    spec.dims.key_tokens = tokens;
    return DraftPlan(spec, {bf16});
  };
  EXPECT_FALSE(plan(fits, TensorKind::kF32, false).packs);
  EXPECT_TRUE(plan(fits, TensorKind::kBF16, false).packs);
  EXPECT_EQ(plan(fits, TensorKind::kBF16, false).bytes.packed, kMaxPackedBytes);
  EXPECT_FALSE(plan(fits + 1, TensorKind::kBF16, false).packs);
  EXPECT_EQ(plan(fits + 1, TensorKind::kBF16, false).bytes.packed, 0);
  EXPECT_FALSE(plan(fits, TensorKind::kBF16, true).packs);  // products of bfloat16 take it as it came
  EXPECT_TRUE(plan(2 * fits, TensorKind::kF32, true).packs);
}

TEST(MakePlan, PacksTilesWhereManyRowsMeetEachKey) {
  const auto plan = [](std::int64_t tokens, std::int64_t head_size, auto change) {
    ProblemRequest request = HeadMajorRequest({1, 8, 8, tokens, tokens, head_size, head_size});
    change(request);
    return DraftPlan(Checked(request), {true, true});
  };
  const auto as_it_is = [](ProblemRequest& /*request*/) {};
  const ExecutionPlan full = plan(1024, 64, as_it_is);
  EXPECT_TRUE(full.packs_key_tiles);
  EXPECT_FALSE(full.packs_value_tiles);  // gains nothing in float32
  EXPECT_EQ(full.bytes.packed, 8 * 1024 * 64 * 4);
  EXPECT_EQ(plan(1300, 64, as_it_is).bytes.packed, full.bytes.packed);  // full tiles alone
  EXPECT_TRUE(plan(512, 64, as_it_is).packs_key_tiles);
  EXPECT_FALSE(plan(511, 64, as_it_is).packs_key_tiles);                // no full tile
  EXPECT_EQ(plan(1024, 40, as_it_is).bytes.packed, full.bytes.packed);  // padded
  EXPECT_TRUE(plan(8192, 64, as_it_is).packs_key_tiles);
  EXPECT_FALSE(plan(8193 + 511, 64, as_it_is).packs_key_tiles);  // beyond the bound
  EXPECT_TRUE(plan(1024, 64, [](ProblemRequest& r) { r = SplitHeads(8, 512, 512, 1024); }).packs_value_tiles);
  const auto causal = [](ProblemRequest& request) { request = Causal(request); };
  EXPECT_TRUE(plan(1024, 64, causal).packs_key_tiles);
  EXPECT_FALSE(plan(896, 64, causal).packs_key_tiles);  // 448.5 rows meet a key
  EXPECT_FALSE(plan(1024, 64, [](ProblemRequest& r) { r.algorithm = Algorithm::kNaive; }).packs_key_tiles);
  const auto bf16 = [](ProblemRequest& request) { request.precision = ComputePrecision::kBFloat16; };
  const ExecutionPlan halves = plan(1024, 64, bf16);
  EXPECT_TRUE(halves.packs_key_tiles && halves.packs_value_tiles);
  EXPECT_EQ(halves.bytes.packed, 2 * 8 * 1024 * 2 * 64 * 2);  // narrowed, and the tiles
  EXPECT_FALSE(DraftPlan(Checked(HeadMajorRequest({1, 8, 8, 1024, 1024, 64, 64})), {true, false}).packs_key_tiles);
}

// Tiles are laid out from rows as products take them: as they came, or made so before.
TEST(MakePlan, PacksNoTilesOfRowsThatAreMadeTileByTile) {
  const auto plan = [](std::int64_t tokens, TensorKind kind, ComputePrecision precision, bool rotary) {
    ProblemRequest request = HeadMajorRequest({1, 8, 8, tokens, tokens, 64, 64}, kind);
    request.precision = precision;
    if (rotary) {
      request.position.kind = PositionKind::kRotary;
      request.position.layout = ChannelLayout::kHalves;
    }
    return DraftPlan(Checked(request), {true, true});
  };
  constexpr auto kFloat32 = ComputePrecision::kFloat32;
  const std::int64_t fits = kMaxPackedBytes / (2 * 8 * 64 * 4);  // tokens, K and V in float32
  for (const TensorKind kind : {TensorKind::kF16, TensorKind::kBF16}) {
    EXPECT_TRUE(plan(fits, kind, kFloat32, false).packs);
    for (const std::int64_t tokens : {fits + 1, 5120L, 2 * fits}) {
      EXPECT_FALSE(plan(tokens, kind, kFloat32, false).packs_key_tiles) << tokens;
    }
  }
  EXPECT_FALSE(plan(8400, TensorKind::kF32, kFloat32, true).packs_key_tiles);
  EXPECT_FALSE(plan(8400, TensorKind::kF32, ComputePrecision::kBFloat16, false).packs_key_tiles);
  EXPECT_TRUE(plan(5120, TensorKind::kF32, kFloat32, false).packs_key_tiles);
}

TEST(MakePlan, CountsWhatStatisticsAndNarrowMapsHold) {
  ProblemRequest request = HeadMajorRequest({2, 4, 2, 300, 200, 8, 8});
  EXPECT_EQ(PlanOf(request).sink_bytes, 0);
  request.outputs.head_statistics = true;
  EXPECT_EQ(PlanOf(request).sink_bytes, 2 * 4 * 300 * 32);
  request.outputs.maps.emplace_back().heads = {1, 3};
  EXPECT_EQ(PlanOf(request).sink_bytes, 2 * 4 * 300 * 32);
  request.outputs.kind = TensorKind::kF16;  // float32 while the maps are made
  EXPECT_EQ(PlanOf(request).sink_bytes, 2 * 4 * 300 * 32 + 2 * 2 * 300 * 200 * 2);
}

// Every number of a plan.
std::vector<std::int64_t> NumbersOf(const ExecutionPlan& plan) {
  return {static_cast<std::int64_t>(plan.algorithm),
          plan.tile.query_rows,
          plan.tile.keys,
          plan.tile_heads.group,
          plan.tile_heads.key_value_heads,
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
