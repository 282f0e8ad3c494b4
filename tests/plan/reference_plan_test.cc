// How much of a problem the double reference computes.
#include "tests/plan/plans.h"

namespace headlight {
namespace {

ReferencePlan ReferenceOf(const ProblemRequest& request, const Limits& limits = Limits()) {
  return PlanReference(Checked(request), limits).value();
}

TEST(PlanReference, TakesAllRowsUpToTwoBillionFlops) {
  // 4 x 1000 x 1000 x 500 FLOPs are the bound exactly.
  ReferencePlan plan = ReferenceOf(OneHead(1000, 500));
  EXPECT_EQ(plan.rows_total, 1000);
  EXPECT_EQ(plan.rows, 1000);
  EXPECT_EQ(plan.flops, 2'000'000'000);
  // With one channel more a row takes 2,004,000, and 998 of them fit.
  plan = ReferenceOf(OneHead(1000, 501));
  EXPECT_EQ(plan.rows, 998);
  EXPECT_EQ(plan.flops, 998 * 2'004'000);
}

TEST(PlanReference, CountsRowsOverAllBatchesAndWhatTheyCost) {
  const ReferencePlan plan = ReferenceOf(HeadMajorRequest());
  EXPECT_EQ(plan.rows_total, 2 * 5);
  EXPECT_EQ(plan.rows, 10);
  EXPECT_EQ(plan.flops, PlanOf(HeadMajorRequest()).flops);
  EXPECT_EQ(ReferenceOf(CrossRequest()).flops, PlanOf(CrossRequest()).flops);
  EXPECT_EQ(ReferenceOf(SeededRequest()).flops, PlanOf(SeededRequest()).flops);
}

TEST(PlanReference, NeverExceedsTheBoundWhereARowFits) {
  for (const std::int64_t tokens : {500, 2000, 5000}) {
    for (const std::int64_t heads : {1, 3, 16}) {
      const ReferencePlan plan = ReferenceOf(HeadMajorRequest({2, heads, 1, tokens, tokens, 64, 96}));
      const std::int64_t row = 2 * tokens * heads * (64 + 96);
      EXPECT_LE(plan.flops, 2'000'000'000);
      EXPECT_TRUE(plan.rows == plan.rows_total || plan.flops + row > 2'000'000'000) << tokens << " " << heads;
      EXPECT_EQ(plan.flops, plan.rows * row);
    }
  }
}

TEST(PlanReference, TakesMoreRowsWhereACausalMaskSavesSome) {
  const ReferencePlan full = ReferenceOf(OneHead(4000, 64));
  const ReferencePlan causal = ReferenceOf(Causal(OneHead(4000, 64)));
  EXPECT_LT(full.rows, full.rows_total);
  EXPECT_GT(causal.rows, full.rows);
}

TEST(PlanReference, TakesOneRowAtLeast) {
  const ReferencePlan plan = ReferenceOf(HeadMajorRequest({1, 128, 1, 1, 16384, 512, 512}));
  EXPECT_EQ(plan.rows, 1);
  EXPECT_EQ(plan.flops, std::int64_t{2} * 16384 * 128 * 1024);
}

TEST(PlanReference, TakesAllRowsWhereNoneSeesAKey) {
  ProblemRequest request = HeadMajorRequest();
  request.mask.key_lengths = {0, 0};
  const ReferencePlan plan = ReferenceOf(request);
  EXPECT_EQ(plan.rows, 10);
  EXPECT_EQ(plan.flops, 0);
}

// Keys and values of every token must be projected whichever rows are computed.
TEST(PlanReference, PaysForKeysAndValuesFirst) {
  const ProblemRequest request = SplitHeads(4, 1024, 1024, 300);  // 600 rows; keys and values take 2.5e9
  const std::int64_t fixed = std::int64_t{2} * 600 * 1024 * 2048;
  const std::int64_t row = 2 * (1024 * 1024 * 2) + 2 * 300 * 2 * 1024;
  ReferencePlan plan = ReferenceOf(request);
  EXPECT_EQ(plan.rows, 1);
  EXPECT_EQ(plan.flops, fixed + row);
  plan = ReferenceOf(SplitHeads(4, 1024, 1024, 200));  // 1.7e9
  EXPECT_EQ(plan.rows, (2'000'000'000 - std::int64_t{2} * 400 * 1024 * 2048) / (4 * 1024 * 1024 + 4 * 200 * 1024));
}

TEST(PlanReference, RefusesWhereKeysAndValuesAloneAreTooMuch) {
  const ProblemRequest request = CrossRequest();
  const std::int64_t fixed = 2 * 14 * 12 * (16 + 12);
  Limits limits;
  limits.max_reference_flops = fixed;
  EXPECT_TRUE(PlanReference(Checked(request), limits).ok());
  --limits.max_reference_flops;
  const absl::Status status = PlanReference(Checked(request), limits).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kRequestTooExpensive);
  EXPECT_EQ(FieldsOf(status), std::vector<std::string>{"self_attention"});
  EXPECT_TRUE(PlanReference(Checked(HeadMajorRequest()), limits).ok());  // nothing to project
}

}  // namespace
}  // namespace headlight
