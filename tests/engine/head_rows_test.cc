// Whole rows of all heads against the oracle, whatever masks, positions and groups of heads there are.
#include "server/engine/head_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/support/head_rows.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Bound;
using oracle::Compare;
using oracle::Exact;
using oracle::PlanRows;
using oracle::Problem;
using oracle::RunRows;
using oracle::Solve;

// Keeps everything; each block of rows takes it three steps.
class Collector final : public HeadRowsSink {
 public:
  explicit Collector(const Dimensions& d)
      : d_(d),
        weights(Count(d.query_heads * d.query_tokens * d.key_tokens)),
        ends(Count(d.query_heads * d.query_tokens)) {}

  void Begin(std::int64_t chain_count) override {
    chains = chain_count;
    last_row_.assign(Count(chain_count), -1);
  }
  absl::StatusOr<bool> OnRows(std::int64_t chain, const HeadRows& rows, std::int64_t step) override {
    if (step < 2) return true;
    EXPECT_EQ(step, 2);
    EXPECT_GT(rows.rows.begin, last_row_[Count(chain)]);
    last_row_[Count(chain)] = rows.rows.begin;
    const std::scoped_lock lock(mutex_);
    for (std::int64_t h = 0; h < rows.heads; ++h) {
      for (std::int64_t r = 0; r < rows.rows.size(); ++r) {
        const std::int64_t row = h * d_.query_tokens + rows.rows.begin + r;
        ends[Count(row)] = rows.End(h, r);
        for (std::int64_t j = rows.keys.begin; j < rows.keys.end; ++j) {
          weights[Count(row * d_.key_tokens + j)] = rows.Row(h, r)[j];
        }
      }
      lengths.resize(Count(rows.heads * d_.key_tokens));
      std::memcpy(lengths.data() + h * d_.key_tokens, rows.ValueLengths(h), Count(d_.key_tokens) * sizeof(float));
    }
    return false;
  }
  void End() override { ++ended; }

 private:
  static std::size_t Count(std::int64_t n) { return static_cast<std::size_t>(n); }

  Dimensions d_;
  std::mutex mutex_;
  std::vector<std::int64_t> last_row_;

 public:
  std::vector<float> weights, lengths;
  std::vector<RowEnd> ends;
  std::int64_t chains = 0;
  int ended = 0;
};

Problem Layer(std::int64_t tokens) {
  Problem p;
  p.tq = p.tk = tokens;
  p.e = 24;
  p.eo = 20;
  p.hq = 4;
  p.hkv = 2;
  p.biases = true;
  return p;
}

// With `rows_at_once`: as many at a time as a plan takes where there are more heads or keys.
void ExpectExact(const Problem& p, std::int64_t rows_at_once = 0) {
  SCOPED_TRACE(p.Describe());
  const std::unique_ptr<Bound> bound = Bind(p);
  const Exact exact = Solve(*bound);
  absl::StatusOr<HeadRowsPlan> plan = PlanRows(*bound);
  ASSERT_TRUE(plan.ok()) << plan.status();
  if (rows_at_once > 0) {
    plan->rows = rows_at_once;
    plan->chains = std::min<std::int64_t>(CeilDiv(p.tq, rows_at_once), 64);
  }
  MemoryAccount account(nullptr);
  Collector rows(plan->plan.spec.dims);
  ASSERT_EQ(RunRows(*plan, *bound, account, rows), absl::OkStatus());
  EXPECT_EQ(rows.ended, 1);
  EXPECT_EQ(rows.chains, plan->chains);
  EXPECT_EQ(account.now(), 0) << "what was held is not given back";
  EXPECT_EQ(Compare(rows.weights, exact.weights), "");
  EXPECT_EQ(Compare(rows.lengths, oracle::ValueLengths(*bound)), "");
  for (std::size_t i = 0; i < rows.ends.size(); ++i) {
    const auto tokens = static_cast<std::size_t>(p.tk);
    std::int32_t keys = 0;
    double sum = 0;
    for (std::size_t j = 0; j < tokens; ++j) {
      keys += exact.scores[i * tokens + j] > -INFINITY ? 1 : 0;
      sum += exact.weights[i * tokens + j];
    }
    ASSERT_EQ(rows.ends[i].keys, keys) << "row " << i;
    ASSERT_NEAR(rows.ends[i].sum, sum, 1e-5) << "row " << i;
  }
}

TEST(HeadRows, AgreeOverSizesAroundTheTiles) {
  for (const std::int64_t tokens : {1, 2, 15, 16, 17, 64, 65, 130, 300, 600}) {
    Problem p = Layer(tokens);
    ExpectExact(p);
    p.causal = CausalAlignment::kTopLeft;
    ExpectExact(p);
  }
}

TEST(HeadRows, AgreeForEveryGroupOfHeads) {
  for (const std::int64_t hkv : {1, 2, 3, 6}) {
    for (const std::int64_t eo : {0, 300}) {
      Problem p = Layer(90);
      p.hq = 6;
      p.hkv = hkv;
      p.eo = eo;
      p.dv = 24;
      p.causal = CausalAlignment::kTopLeft;
      ExpectExact(p);
    }
  }
}

TEST(HeadRows, AgreeForFewRowsAtATime) {
  for (const std::int64_t rows : {1, 3, 16, 48}) {
    Problem p = Layer(150);
    p.hq = 6;
    p.hkv = 1;
    p.causal = CausalAlignment::kTopLeft;
    ExpectExact(p, rows);
  }
}

TEST(HeadRows, AgreeForEveryMask) {
  Problem p = Layer(200);
  p.key_lengths = {130};
  ExpectExact(p);
  p.causal = CausalAlignment::kBottomRight;  // 70 rows see nothing
  ExpectExact(p);
  p = Layer(200);
  p.window = WindowForm{7, 3, CausalAlignment::kTopLeft, std::nullopt};
  ExpectExact(p);
  p = Layer(200);
  p.segments.emplace();
  for (std::int64_t i = 0; i < 200; ++i) p.segments->query_ids.push_back(i / 60);
  p.segments->key_ids = p.segments->query_ids;
  ExpectExact(p);
  p = Layer(200);
  p.mask_kind = TensorKind::kBool;
  p.mask_shape = {1, 4, 200, 200};
  p.mask = oracle::Numbers(9, 4 * 200 * 200);
  for (float& x : p.mask) x = x > 1 ? 1 : 0;
  std::fill_n(p.mask.begin() + 200 * 10, 200 * 5, 0.0F);  // of head 0 alone
  ExpectExact(p);
}

TEST(HeadRows, AgreeForEveryPositionScheme) {
  for (const PositionKind kind : {PositionKind::kRotary, PositionKind::kSinusoidal, PositionKind::kAlibi}) {
    Problem p = Layer(150);
    p.position.kind = kind;
    p.position.layout = ChannelLayout::kHalves;
    if (kind == PositionKind::kAlibi) {
      p.position.layout.reset();
      p.position.slopes = {0.5F, 0.25F, 0.125F, 0.0625F};
    }
    p.causal = CausalAlignment::kTopLeft;
    ExpectExact(p);
  }
}

TEST(HeadRows, SinksTakeTheirPartOfEachRow) {
  Problem p = Layer(80);
  p.sinks = {1.5F, 0, -3, 40};
  p.softcap = 5;
  p.causal = CausalAlignment::kTopLeft;
  ExpectExact(p);
}

TEST(HeadRows, ReadSixteenBitNumbers) {
  Problem p = Layer(70);
  p.kind = TensorKind::kBF16;
  ExpectExact(p);
}

// A head that met NaN is NaN where it met it, and only there.
TEST(HeadRows, NonFiniteRowsAreNoNumbers) {
  Problem p = Layer(40);
  p.causal = CausalAlignment::kTopLeft;
  p.allow_non_finite = true;
  const std::unique_ptr<Bound> bound = Bind(p);
  bound->embeddings.floats()[20 * 24] = NAN;
  const absl::StatusOr<HeadRowsPlan> plan = PlanRows(*bound);
  ASSERT_TRUE(plan.ok());
  MemoryAccount account(nullptr);
  Collector rows(plan->plan.spec.dims);
  ASSERT_EQ(RunRows(*plan, *bound, account, rows), absl::OkStatus());
  for (std::size_t i = 0; i < rows.ends.size(); ++i) {
    const bool met = i % 40 >= 20;
    EXPECT_EQ(std::isnan(rows.ends[i].sum), met) << i;
    EXPECT_EQ(std::isnan(rows.weights[i * 40]), met) << i;
  }
  Problem refused = p;
  refused.allow_non_finite = false;
  const std::unique_ptr<Bound> again = Bind(refused);
  again->embeddings.floats()[20 * 24] = NAN;
  EXPECT_EQ(RunRows(*PlanRows(*again), *again, account, rows).code(), absl::StatusCode::kInvalidArgument);
}

// Beyond what a lane's weights take in whole rows, memory grows with the tokens.
TEST(HeadRows, MemoryGrowsWithTheTokensAlone) {
  std::int64_t peaks[3] = {};
  for (const int i : {0, 1, 2}) {
    Problem p = Layer(std::int64_t{1000} << i);
    p.causal = CausalAlignment::kTopLeft;
    const std::unique_ptr<Bound> bound = Bind(p);
    const absl::StatusOr<HeadRowsPlan> plan = PlanRows(*bound);
    ASSERT_TRUE(plan.ok());
    class Nothing final : public HeadRowsSink {
      void Begin(std::int64_t /*chains*/) override {}
      absl::StatusOr<bool> OnRows(std::int64_t, const HeadRows&, std::int64_t) override { return false; }
      void End() override {}
    } nothing;
    MemoryAccount account(nullptr);
    ASSERT_EQ(RunRows(*plan, *bound, account, nothing, 1), absl::OkStatus());
    EXPECT_LE(account.peak(), plan->plan.WorkspaceTotal(1));
    EXPECT_LE(4 * plan->plan.spec.dims.query_heads * plan->rows * plan->stride, std::int64_t{8} << 20);
    peaks[i] = account.peak();
  }
  EXPECT_LT(peaks[1], 2.1 * static_cast<double>(peaks[0]));
  EXPECT_LT(peaks[2], 2.1 * static_cast<double>(peaks[1]));
}

TEST(HeadRows, TheSameBitsWithAnyNumberOfThreads) {
  Problem p = Layer(700);
  p.causal = CausalAlignment::kTopLeft;
  const std::unique_ptr<Bound> bound = Bind(p);
  const absl::StatusOr<HeadRowsPlan> plan = PlanRows(*bound);
  ASSERT_TRUE(plan.ok());
  MemoryAccount account(nullptr);
  Collector one(plan->plan.spec.dims);
  Collector four(plan->plan.spec.dims);
  ASSERT_EQ(RunRows(*plan, *bound, account, one, 1), absl::OkStatus());
  ASSERT_EQ(RunRows(*plan, *bound, account, four, 4), absl::OkStatus());
  EXPECT_EQ(std::memcmp(one.weights.data(), four.weights.data(), one.weights.size() * sizeof(float)), 0);
  EXPECT_EQ(one.lengths, four.lengths);
}

}  // namespace
}  // namespace headlight
