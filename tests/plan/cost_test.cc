// FLOPs and bytes, by hand.
#include "tests/plan/plans.h"

namespace headlight {
namespace {

std::int64_t FlopsOf(const ProblemRequest& request) { return PlanOf(request).flops; }

// 2 x visible pairs x Hq x (D + Dv).
TEST(Flops, CountTwoPerPairHeadAndChannel) {
  EXPECT_EQ(FlopsOf(HeadMajorRequest()), 2 * (2 * 5 * 7) * 4 * (8 + 6));
  EXPECT_EQ(FlopsOf(TokenMajorRequest()), FlopsOf(HeadMajorRequest()));
  EXPECT_EQ(FlopsOf(HeadMajorRequest({1, 1, 1, 1, 1, 1, 1})), 4);
}

TEST(Flops, CountWhatACausalCallSees) {
  const std::int64_t per_pair = 4 * (8 + 6) * 2;
  EXPECT_EQ(FlopsOf(Causal(HeadMajorRequest())), 2 * (1 + 2 + 3 + 4 + 5) * per_pair);
  EXPECT_EQ(FlopsOf(Causal(HeadMajorRequest(), CausalAlignment::kBottomRight)), 2 * (3 + 4 + 5 + 6 + 7) * per_pair);
  ProblemRequest request = HeadMajorRequest();
  request.mask.causal = CausalForm{CausalAlignment::kExplicit, -3};
  EXPECT_EQ(FlopsOf(request), 2 * (0 + 0 + 0 + 1 + 2) * per_pair);
  request.mask.causal->offset = -5;
  EXPECT_EQ(FlopsOf(request), 0);
  request = HeadMajorRequest();
  request.mask.key_lengths = {3, 0};
  EXPECT_EQ(FlopsOf(request), 5 * 3 * per_pair);
  request = Causal(request, CausalAlignment::kBottomRight);  // offset -2 for batch 0
  EXPECT_EQ(FlopsOf(request), (0 + 0 + 1 + 2 + 3) * per_pair);
}

TEST(Flops, LookIntoNoMaskTensorButForItsLastAxis) {
  ProblemRequest request = HeadMajorRequest();
  request.mask.tensor = FormOf({5, 7}, TensorKind::kBool);
  EXPECT_EQ(FlopsOf(request), FlopsOf(HeadMajorRequest()));
  request.mask.tensor = FormOf({3}, TensorKind::kBool);
  EXPECT_EQ(FlopsOf(request), 2 * 5 * 3 * 2 * 4 * (8 + 6));
}

// 8 heads of 64 cost exactly what 1 head of 512 costs: the promise of "Attention Is All You Need", section 3.2.2.
TEST(Flops, AreTheSameForEightHeadsOf64AndOneOf512) {
  for (const std::int64_t tokens : {1, 17, 300}) {
    for (const bool causal : {false, true}) {
      const auto flops = [&](const ProblemRequest& request) { return FlopsOf(causal ? Causal(request) : request); };
      const std::int64_t eight = flops(HeadMajorRequest({2, 8, 8, tokens, tokens, 64, 64}));
      const std::int64_t one = flops(HeadMajorRequest({2, 1, 1, tokens, tokens, 512, 512}));
      EXPECT_EQ(eight, one);
      EXPECT_EQ(flops(SplitHeads(8, 512, 512, tokens)), flops(SplitHeads(1, 512, 512, tokens)));
      EXPECT_EQ(flops(SplitHeads(8, 512, 300, tokens)), flops(SplitHeads(1, 512, 300, tokens)));
      EXPECT_EQ(flops(SplitHeads(8, 512, 512, tokens)), eight + 4 * 2 * (2 * tokens) * 512 * 512);
    }
  }
}

// 2 x D + 16 where a map multiplies again, 16 where it looks on.
TEST(MapFlops, CountTheTilesInWhichMasksLeaveSomething) {
  constexpr std::int64_t kTokens = 4096;
  ProblemRequest request = HeadMajorRequest({1, 2, 2, kTokens, kTokens, 64, 64});
  request.outputs.maps.resize(1);
  request.outputs.maps[0].top_k = 8;
  const auto flops = [&request] { return PlanOf(request).map_flops; };
  EXPECT_EQ(flops(), 2 * kTokens * kTokens * 16);
  request = Causal(request);
  const std::int64_t tile = PlanOf(request).tile.keys;
  EXPECT_GT(flops(), kTokens * kTokens * 16);
  EXPECT_LE(flops(), kTokens * (kTokens + 2 * tile) * 16);
  request.mask.window = WindowForm{8, {}, {}, {}};
  EXPECT_LE(flops(), 2 * kTokens * 3 * tile * 16);
  request.outputs.maps[0].top_k.reset();
  request.outputs.maps[0].column_sums = true;
  EXPECT_LE(flops(), 2 * kTokens * 3 * tile * (2 * 64 + 16));
  request.outputs.maps[0].column_sums = false;
  request.outputs.maps[0].stage = MapStage::kScaled;
  EXPECT_EQ(flops(), 2 * kTokens * kTokens * (2 * 64 + 16)) << "raw scores are there behind masks, too";
  request.outputs.maps[0].stage = MapStage::kWeights;
  request.outputs.maps[0].rows = {{0, 128}};
  EXPECT_LE(flops(), 2 * 128 * 3 * tile * 16);
}

// 2 x rows x fan-in x fan-out of each.
TEST(ProjectionFlops, CountEveryMatrix) {
  EXPECT_EQ(ProjectionFlops(Checked(HeadMajorRequest())), 0);
  EXPECT_EQ(ProjectionFlops(Checked(LayerRequest())), 2 * 10 * (16 * 32 + 16 * 16 + 16 * 12 + 24 * 10));
  EXPECT_EQ(ProjectionFlops(Checked(CrossRequest())), 2 * (10 * 16 * 32 + 14 * 12 * 16 + 14 * 12 * 12 + 10 * 24 * 10));
  ProblemRequest bare = LayerRequest();
  Weights(bare).output.reset();
  EXPECT_EQ(ProjectionFlops(Checked(bare)), 2 * 10 * (16 * 32 + 16 * 16 + 16 * 12));
  EXPECT_EQ(ProjectionFlops(Checked(SeededRequest())), 4 * 2 * 5 * 16 * 16);
  EXPECT_EQ(FlopsOf(LayerRequest()), ProjectionFlops(Checked(LayerRequest())) + 2 * 50 * 4 * 14);
}

TEST(Bytes, OfTheGridAreCountedWhereItIsHeld) {
  ProblemRequest request = HeadMajorRequest();
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    request.algorithm = algorithm;
    const ExecutionPlan plan = PlanOf(request);
    EXPECT_EQ(plan.score_grid_bytes, 2 * 4 * 5 * 7 * 4);
    EXPECT_EQ(plan.bytes.grid, algorithm == Algorithm::kNaive ? plan.score_grid_bytes : 0);
  }
}

TEST(Bytes, OfAFlashWorkspaceDoNotGrowWithTheTokens) {
  const WorkspaceBytes small = PlanOf(OneHead(1024, 64)).bytes;
  const WorkspaceBytes large = PlanOf(OneHead(16384, 64)).bytes;
  EXPECT_EQ(small.scratch_per_lane, large.scratch_per_lane);
  EXPECT_EQ(large.grid + large.packed + large.projection, 0);
}

TEST(Bytes, AddUpPerLane) {
  const ExecutionPlan plan = PlanOf(CrossRequest());
  const std::int64_t shared = plan.bytes.grid + plan.bytes.packed + plan.bytes.projection;
  EXPECT_EQ(plan.WorkspaceTotal(0), shared);
  EXPECT_EQ(plan.WorkspaceTotal(3), shared + 3 * plan.bytes.scratch_per_lane);
}

// A tile of Q, of K, of V, of scores and of the output, with a maximum and a sum per row: all in one MiB.
TEST(Scratch, OfALaneStaysUnderOneMebibyteForEveryHeadSize) {
  constexpr std::int64_t kMebibyte = 1 << 20;
  const Limits limits;
  for (const bool causal : {false, true}) {
    ProblemSpec spec = Checked(causal ? Causal(HeadMajorRequest({1, 1, 1, 64, 512, 1, 1}))
                                      : HeadMajorRequest({1, 1, 1, 64, 512, 1, 1}));
    std::int64_t most = 0;
    for (std::int64_t d = 1; d <= 512; ++d) {
      for (std::int64_t dv = 1; dv <= 512; dv += causal ? 7 : 1) {
        spec.dims.head_size = d;
        spec.dims.value_head_size = dv;
        const ExecutionPlan plan = MakePlan(spec, limits, {}).value();
        const std::int64_t rows = plan.tile.query_rows;
        const std::int64_t held = rows * (d + dv + plan.tile.keys + 2) + plan.tile.keys * (d + dv);
        ASSERT_GE(plan.bytes.scratch_per_lane, held * 4) << d << " " << dv;
        ASSERT_LE(plan.bytes.scratch_per_lane, kMebibyte) << d << " " << dv;
        most = std::max(most, plan.bytes.scratch_per_lane);
      }
    }
    EXPECT_GT(most, kMebibyte / 4);
  }
}

TEST(Scratch, OfAProjectionStaysUnderOneMebibyteForEveryWidth) {
  for (const std::int64_t width : {1, 2048, 2049, 4096, 4097, 16384}) {
    EXPECT_LE(PlanOf(SplitHeads(1, 512, width, 64)).bytes.scratch_per_lane, 1 << 20) << width;
  }
}

TEST(Packed, HoldsWhatIsWidenedOrTurned) {
  const std::int64_t k = 2 * 2 * 7 * 8;  // B x Hkv x Tk x D
  const std::int64_t v = 2 * 2 * 7 * 6;
  EXPECT_EQ(PlanOf(HeadMajorRequest()).bytes.packed, 0);
  EXPECT_EQ(PlanOf(HeadMajorRequest(kSmall, TensorKind::kBF16)).bytes.packed, (k + v) * 4);
  ProblemRequest rotary = HeadMajorRequest();
  rotary.position.kind = PositionKind::kRotary;
  rotary.position.query_offset = 0;
  EXPECT_EQ(PlanOf(rotary).bytes.packed, (k + (5 + 7) * 8) * 4);  // and a table row per token
  rotary.position.rotary_size = 4;
  EXPECT_EQ(PlanOf(rotary).bytes.packed, (k + (5 + 7) * 4) * 4);
  ProblemRequest layer = LayerRequest();
  EXPECT_EQ(PlanOf(layer).bytes.packed, 0);
  layer.position.kind = PositionKind::kRotary;  // Q and K are turned where they were projected to
  EXPECT_EQ(PlanOf(layer).bytes.packed, (5 + 5) * 8 * 4);
}

TEST(Projection, HoldsQueriesKeysValuesAndTheConcatenation) {
  EXPECT_EQ(PlanOf(HeadMajorRequest()).bytes.projection, 0);
  const std::int64_t rows = 2 * 5;
  const std::int64_t qkv = rows * (32 + 16 + 12);
  const std::int64_t concat = rows * 24;
  const std::int64_t weights = 16 * (32 + 16 + 12) + 24 * 10;
  ProblemRequest request = LayerRequest();
  EXPECT_EQ(PlanOf(request).bytes.projection, (qkv + concat) * 4);
  request.position.kind = PositionKind::kSinusoidal;  // added to a copy
  EXPECT_EQ(PlanOf(request).bytes.projection, (qkv + concat + rows * 16) * 4);
  EXPECT_EQ(PlanOf(LayerRequest(kSmall, TensorKind::kF16)).bytes.projection, (qkv + concat + rows * 16 + weights) * 4);
  Weights(request).output.reset();
  request.position.kind = PositionKind::kNone;
  EXPECT_EQ(PlanOf(request).bytes.projection, qkv * 4);
  // Seeded: embeddings of 5 x 16 and four matrices of 16 x 16.
  EXPECT_EQ(PlanOf(SeededRequest()).bytes.projection, (5 * 16 * (3 + 1 + 1) + 4 * 16 * 16) * 4);
}

// The bytes that an answer takes beyond its tensors: framing, generously.
constexpr std::int64_t kFraming = 512;
constexpr std::int64_t kMapFraming = 64;

TEST(ResponseBytes, CountEveryTensorOfTheAnswer) {
  ProblemRequest request = HeadMajorRequest();
  const auto bytes = [&request] { return PlanOf(request).response_bytes - kFraming; };
  const std::int64_t rows = 2 * 4 * 5;
  EXPECT_EQ(bytes(), rows * 6 * 4);
  request.outputs.log_sum_exp = true;
  EXPECT_EQ(bytes(), rows * 6 * 4 + rows * 4);
  request.outputs.head_outputs = true;
  EXPECT_EQ(bytes(), 2 * rows * 6 * 4 + rows * 4);
  request.outputs.kind = TensorKind::kBF16;  // the log-sum-exp stays float32
  EXPECT_EQ(bytes(), 2 * rows * 6 * 2 + rows * 4);
  request.outputs.omit_output = true;
  EXPECT_EQ(bytes(), rows * 6 * 2 + rows * 4);
  EXPECT_EQ(PlanOf(LayerRequest()).response_bytes - kFraming, 2 * 5 * 10 * 4);
}

TEST(ResponseBytes, CountEveryMap) {
  ProblemRequest request = HeadMajorRequest();
  request.outputs.omit_output = true;
  request.outputs.maps.resize(1);
  const auto bytes = [&request] { return PlanOf(request).response_bytes - kFraming; };
  EXPECT_EQ(bytes(), 8 * (5 * 7 * 4 + kMapFraming));
  request.outputs.maps[0] = {{1, 3}, {0}, {{0, 2}, {4, 5}}, Range{2, 7}, {}};
  EXPECT_EQ(bytes(), 2 * (3 * 5 * 4 + 2 * kMapFraming));
  request.outputs.kind = TensorKind::kF16;
  EXPECT_EQ(bytes(), 2 * (3 * 5 * 2 + 2 * kMapFraming));
  request.outputs.maps[0].top_k = 3;  // a count per row, then keys of one byte and weights of four
  EXPECT_EQ(bytes(), 2 * (3 * (2 + 3 * (1 + 4)) + 2 * kMapFraming));
  request.outputs.maps.push_back(request.outputs.maps[0]);
  EXPECT_EQ(bytes(), 4 * (3 * (2 + 3 * (1 + 4)) + 2 * kMapFraming));
  request.outputs.maps.resize(1);
  request.outputs.maps[0].top_k.reset();
  request.outputs.maps[0].pooled = PooledForm{1, 2, PoolReducer::kMax};
  EXPECT_EQ(bytes(), 2 * 2 * (1 * 2 * 2 + kMapFraming));
  request.outputs.maps[0].pooled.reset();
  request.outputs.maps[0].column_sums = true;
  EXPECT_EQ(bytes(), 2 * 2 * (5 * 2 + kMapFraming));
  request.outputs.maps.clear();
  request.outputs.head_statistics = true;
  EXPECT_GE(bytes(), 2 * 4 * 80);  // two numbers of at most five bytes and seven of nine, framed
}

}  // namespace
}  // namespace headlight
