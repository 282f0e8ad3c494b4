#include "server/engine/compare.h"

#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Bound;
using oracle::Problem;

struct Compared {
  Difference naive_flash, naive_reference, flash_reference;
  ReferenceRecord reference;
};

// Runs a comparison of the bound problem; `reference_rows` 0 means as planned.
Compared RunCompare(const Bound& bound, std::int64_t reference_rows = 0) {
  const Limits limits;
  absl::StatusOr<ProblemSpec> spec = CheckProblem(bound.request, limits);
  EXPECT_TRUE(spec.ok()) << spec.status();
  spec->outputs = OutputSpec();
  spec->outputs.max_response_bytes = limits.max_response_bytes;
  spec->algorithm = Algorithm::kNaive;
  const auto naive = MakePlan(*spec, limits, {MultipliesBF16(), GainsFromPacking()});
  spec->algorithm = Algorithm::kFlash;
  const auto flash = MakePlan(*spec, limits, {MultipliesBF16(), GainsFromPacking()});
  absl::StatusOr<ReferencePlan> reference = PlanReference(*spec, limits);
  EXPECT_TRUE(naive.ok() && flash.ok() && reference.ok());
  if (reference_rows > 0) reference->rows = reference_rows;
  MatmulCache matmuls;
  CompareWork work(*naive, *flash, *reference, bound.data, matmuls, nullptr);
  ComputePool pool(2);
  absl::Notification ended;
  pool.Run(std::make_shared<CallControl>(absl::InfiniteFuture()), &work, [&](const absl::Status& status) {
    EXPECT_TRUE(status.ok()) << status;
    ended.Notify();
  });
  ended.WaitForNotification();
  return {work.naive_flash(), work.naive_reference(), work.flash_reference(), work.reference()};
}

void ExpectClose(const Compared& compared) {
  for (const Difference* d : {&compared.naive_flash, &compared.naive_reference, &compared.flash_reference}) {
    EXPECT_LE(d->max_abs, 2e-5);
    EXPECT_LE(d->mean_abs, d->max_abs);
  }
  EXPECT_GT(compared.naive_reference.max_abs, 0) << "float32 is never exact to the last bit of a double";
}

TEST(Compare, AllThreeAgreeForEveryInputForm) {
  for (const int rank : {4, 3, 2}) {
    Problem p;
    p.b = rank == 2 ? 1 : 2;
    p.rank = rank;
    p.hq = 4;
    p.tk = 40;
    p.causal = CausalAlignment::kBottomRight;
    p.position.kind = PositionKind::kAlibi;
    p.position.slopes = {0.5F, 0.25F, 0.125F, 0};
    p.position.query_offset = 23;
    p.kind = rank == 3 ? TensorKind::kBF16 : TensorKind::kF32;
    const Compared compared = RunCompare(*Bind(p));
    ExpectClose(compared);
    EXPECT_EQ(compared.reference.rows, compared.reference.rows_total);
    EXPECT_EQ(compared.naive_flash.rows, rank == 4 ? p.b * p.hq * p.tq : p.b * p.tq);
    EXPECT_EQ(compared.naive_flash.index.size(), static_cast<std::size_t>(rank));
  }
}

TEST(Compare, EmbeddingsWithAnOutputProjectionAndPositions) {
  for (const PositionKind kind : {PositionKind::kSinusoidal, PositionKind::kLearned, PositionKind::kRotary}) {
    Problem p;
    p.b = 2;
    p.e = 24;
    p.eo = 300;
    p.biases = true;
    p.position.kind = kind;
    p.position.layout = ChannelLayout::kInterleaved;
    ExpectClose(RunCompare(*Bind(p)));
  }
}

TEST(Compare, SeededEmbeddingsAndWeights) {
  Bound bound;
  SelfAttentionForm form;
  form.embeddings_seed = 7;
  form.seeded_tokens = 30;
  form.seeded_width = 32;
  form.weights = WeightsSource::kSeeded;
  form.weights_seed = 11;
  bound.request.input = form;
  bound.request.query_heads = 4;
  bound.request.key_value_heads = 2;
  ExpectClose(RunCompare(bound));
}

TEST(Compare, EvenlySpreadRowsWhereNotAllAreComputed) {
  Problem p;
  p.rank = 3;
  p.b = 2;
  const Compared compared = RunCompare(*Bind(p), 5);
  ExpectClose(compared);
  EXPECT_EQ(compared.naive_reference.rows, 5);
  EXPECT_EQ(compared.naive_flash.rows, 34);
}

TEST(Compare, SaysWhereADifferenceIs) {
  Problem p;
  p.rank = 4;
  const auto bound = Bind(p);
  const oracle::Exact exact = oracle::Solve(*bound);
  const Compared compared = RunCompare(*bound);
  const auto ran = oracle::RunEngine(*bound, Algorithm::kNaive);
  ASSERT_TRUE(ran.ok());
  const Shape& at = compared.naive_reference.index;
  ASSERT_EQ(at.size(), 4);
  const std::int64_t flat = ((at[0] * 2 + at[1]) * 17 + at[2]) * 16 + at[3];
  const double here =
      static_cast<double>((*ran)->result.output.floats()[flat]) - exact.output[static_cast<std::size_t>(flat)];
  EXPECT_NEAR(std::fabs(here), compared.naive_reference.max_abs, 1e-12);
}

}  // namespace
}  // namespace headlight
