// What the loss of heads changes, against the definition in double: from the oracle's head outputs.
#include "server/analysis/ablation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "absl/synchronization/notification.h"
#include "server/analysis/ablation_work.h"
#include "server/engine/sequence.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using Vector = std::vector<double>;

double Dot(const Vector& a, const Vector& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

// From the outputs themselves.
OutputChange ChangeBetween(const Vector& with, const Vector& without) {
  Vector change(with.size());
  std::transform(with.begin(), with.end(), without.begin(), change.begin(), std::minus<>());
  return {std::sqrt(Dot(change, change) / Dot(with, with)),
          Dot(with, without) / std::sqrt(Dot(with, with) * Dot(without, without))};
}

Vector Without(Vector output, const std::vector<Vector>& added, const std::vector<std::int64_t>& heads) {
  for (const std::int64_t h : heads) {
    const Vector& head = added[static_cast<std::size_t>(h)];
    std::transform(output.begin(), output.end(), head.begin(), output.begin(), std::minus<>());
  }
  return output;
}

HeadProducts ProductsOf(const std::vector<Vector>& added, const Vector& output) {
  HeadProducts products(static_cast<std::int64_t>(added.size()));
  for (std::int64_t h = 0; h < products.heads(); ++h) {
    const Vector& head = added[static_cast<std::size_t>(h)];
    for (std::int64_t g = 0; g <= h; ++g) products.Pair(g, h) = Dot(added[static_cast<std::size_t>(g)], head);
    products.WithOutput(h) = Dot(head, output);
  }
  products.output_squared = Dot(output, output);
  return products;
}

Vector Numbers(std::uint64_t seed, std::int64_t n, double scale = 1) {
  const std::vector<float> numbers = oracle::Numbers(seed, n);
  Vector wide(numbers.begin(), numbers.end());
  for (double& x : wide) x *= scale;
  return wide;
}

// Heads of different sizes; the output has a part of its own, like a bias.
struct Heads {
  std::vector<Vector> added;
  Vector output = Numbers(99, 60, 0.3);
};
Heads MakeHeads(std::int64_t count) {
  Heads heads;
  for (std::int64_t h = 0; h < count; ++h) {
    heads.added.push_back(Numbers(static_cast<std::uint64_t>(h), 60, 1 / (1.0 + static_cast<double>(h))));
    for (std::size_t i = 0; i < heads.output.size(); ++i) heads.output[i] += heads.added.back()[i];
  }
  return heads;
}

TEST(ChangeWithout, IsThatOfTheOutputsThemselves) {
  const Heads heads = MakeHeads(5);
  const HeadProducts products = ProductsOf(heads.added, heads.output);
  for (std::uint32_t set = 1; set < 32; ++set) {
    std::vector<std::int64_t> off;
    for (std::int64_t h = 0; h < 5; ++h) {
      if ((set >> h & 1U) != 0) off.push_back(h);
    }
    const OutputChange got = ChangeWithout(products, off);
    const OutputChange want = ChangeBetween(heads.output, Without(heads.output, heads.added, off));
    EXPECT_NEAR(got.relative_l2, want.relative_l2, 1e-12) << set;
    EXPECT_NEAR(got.cosine, want.cosine, 1e-12) << set;
  }
}

TEST(ChangeWithout, AtItsEdges) {
  HeadProducts nothing(2);
  EXPECT_EQ(ChangeWithout(nothing, {}).relative_l2, 0);
  EXPECT_EQ(ChangeWithout(nothing, {0, 1}).relative_l2, 0);
  EXPECT_EQ(ChangeWithout(nothing, {0, 1}).cosine, 1);
  // Two heads that cancel each other: without one there is something where nothing was.
  const HeadProducts opposite = ProductsOf({{1, 2}, {-1, -2}}, {0, 0});
  EXPECT_EQ(ChangeWithout(opposite, {0}).relative_l2, std::numeric_limits<double>::infinity());
  EXPECT_EQ(ChangeWithout(opposite, {0}).cosine, 0);
  EXPECT_EQ(ChangeWithout(opposite, {0, 1}).relative_l2, 0);
  // All that there is goes; what rounding leaves has no direction.
  const HeadProducts only = ProductsOf({{3.0000001, 4}}, {3, 4});
  EXPECT_NEAR(ChangeWithout(only, {0}).relative_l2, 1, 1e-6);
  EXPECT_EQ(ChangeWithout(only, {0}).cosine, 0);
}

TEST(RankByRedundancy, IsTheGreedyOrderByBruteForce) {
  const Heads heads = MakeHeads(6);
  const HeadProducts products = ProductsOf(heads.added, heads.output);
  const std::vector<RedundancyStep> steps = RankByRedundancy(products);
  ASSERT_EQ(steps.size(), 6U);
  std::vector<std::int64_t> gone;
  for (const RedundancyStep& step : steps) {
    std::int64_t best = -1;
    OutputChange least{std::numeric_limits<double>::infinity(), 0};
    for (std::int64_t h = 0; h < 6; ++h) {
      if (std::find(gone.begin(), gone.end(), h) != gone.end()) continue;
      std::vector<std::int64_t> off = gone;
      off.push_back(h);
      const OutputChange change = ChangeBetween(heads.output, Without(heads.output, heads.added, off));
      if (change.relative_l2 < least.relative_l2) {
        least = change;
        best = h;
      }
    }
    gone.push_back(best);
    EXPECT_EQ(step.head, best);
    EXPECT_NEAR(step.change.relative_l2, least.relative_l2, 1e-12);
    EXPECT_NEAR(step.change.cosine, least.cosine, 1e-12);
  }
}

TEST(RankByRedundancy, LooksAtHeadsTogether) {
  // Alone head 1 matters most. But once head 0 is gone, which it all but cancels, it can go too.
  const std::vector<RedundancyStep> steps = RankByRedundancy(ProductsOf({{3, 0}, {-4, 1}, {0, 3.5}}, {-1, 4.5}));
  EXPECT_EQ(steps[0].head, 0);
  EXPECT_EQ(steps[1].head, 1);
  EXPECT_EQ(steps[2].head, 2);
  EXPECT_NEAR(steps[1].change.relative_l2, std::sqrt(2 / 21.25), 1e-15);
  EXPECT_EQ(steps[2].change.cosine, 0);
}

TEST(RankByRedundancy, OfEqualsTheLowerNumber) {
  const std::vector<RedundancyStep> steps = RankByRedundancy(HeadProducts(3));
  for (std::int64_t h = 0; h < 3; ++h) EXPECT_EQ(steps[static_cast<std::size_t>(h)].head, h);
}

// The work, after attention, on the engine.
struct Ablated {
  OwnedTensor output, contribution;
  HeadProducts products;
};

Ablated Ablate(const oracle::Bound& bound, const Ablation& ablation, Algorithm algorithm, int threads = 2) {
  ProblemRequest request = bound.request;
  request.algorithm = algorithm;
  request.outputs.head_outputs = true;
  request.outputs.kind = TensorKind::kF32;
  const ExecutionPlan plan = DraftPlan(CheckProblem(request, {}).value(), {MultipliesBF16(), GainsFromPacking()});
  MatmulCache matmuls;
  MemoryAccount account(nullptr);
  AttentionWork attention(plan, bound.data, account, matmuls, {}, absl::InfinitePast());
  AblationWork work(plan, bound.data, ablation, attention, account, matmuls);
  Sequence all({&attention, &work});
  ComputePool pool(threads);
  absl::Notification ended;
  absl::Status status;
  pool.Run(std::make_shared<CallControl>(absl::InfiniteFuture()), &all, [&](const absl::Status& computed) {
    status = computed;
    ended.Notify();
  });
  ended.WaitForNotification();
  EXPECT_TRUE(status.ok()) << status;
  const AblationCost cost = CostOfAblation(plan, bound.data, ablation);
  EXPECT_LE(account.peak(), plan.WorkspaceTotal(threads) + cost.workspace + cost.lane_scratch * threads);
  return {work.TakeOutput(), work.TakeMeanContribution(), work.products()};
}

// What each head adds, in double: its output, or that less its mean, through its rows of the output matrix.
struct Exact {
  Vector output;
  std::vector<Vector> added;
  std::vector<Vector> mean_added;  // one row each: what the mean adds
};

Exact SolveHeads(const oracle::Bound& bound, AblationMode mode) {
  const oracle::Problem& p = bound.problem;
  const oracle::Exact solved = oracle::Solve(bound);
  const std::vector<float> weights = bound.wo.empty() ? std::vector<float>() : oracle::Floats(bound.wo);
  const std::int64_t width = p.eo != 0 ? p.eo : p.hq * p.dv;
  const auto through = [&](const double* row, std::int64_t h, double* out) {
    for (std::int64_t i = 0; i < p.dv; ++i) {
      if (p.eo == 0) out[h * p.dv + i] += row[i];
      for (std::int64_t c = 0; p.eo != 0 && c < p.eo; ++c) {
        out[c] += row[i] * static_cast<double>(weights[static_cast<std::size_t>((h * p.dv + i) * p.eo + c)]);
      }
    }
  };
  Exact exact{solved.output, {}, {}};
  for (std::int64_t h = 0; h < p.hq; ++h) {
    const auto row_at = [&](std::int64_t b, std::int64_t t) {
      return solved.heads.data() + ((b * p.hq + h) * p.tq + t) * p.dv;
    };
    Vector mean(static_cast<std::size_t>(p.dv));
    for (std::int64_t b = 0; b < p.b; ++b) {
      for (std::int64_t t = 0; t < p.tq; ++t) {
        for (std::int64_t i = 0; i < p.dv; ++i) mean[static_cast<std::size_t>(i)] += row_at(b, t)[i];
      }
    }
    for (double& x : mean) x = mode == AblationMode::kMean ? x / static_cast<double>(p.b * p.tq) : 0;
    Vector& added = exact.added.emplace_back(exact.output.size());
    for (std::int64_t b = 0; b < p.b; ++b) {
      for (std::int64_t t = 0; t < p.tq; ++t) {
        Vector row(row_at(b, t), row_at(b, t) + p.dv);
        std::transform(row.begin(), row.end(), mean.begin(), row.begin(), std::minus<>());
        through(row.data(), h, added.data() + (b * p.tq + t) * width);
      }
    }
    through(mean.data(), h, exact.mean_added.emplace_back(static_cast<std::size_t>(width)).data());
  }
  return exact;
}

void CheckChange(const OutputChange& got, const OutputChange& want, const std::string& where) {
  EXPECT_NEAR(got.relative_l2, want.relative_l2, 1e-5 * (1 + want.relative_l2)) << where;
  EXPECT_NEAR(got.cosine, want.cosine, 1e-5) << where;
}

std::vector<oracle::Problem> Problems() {
  std::vector<oracle::Problem> problems;
  oracle::Problem p;
  p.hq = p.hkv = 4;
  p.tq = p.tk = 37;
  p.e = 24;
  p.eo = 40;
  p.biases = true;
  problems.push_back(p);
  p.b = 3;  // blocks end within a batch
  p.hkv = 2;
  p.tq = p.tk = 83;
  p.dv = 7;
  p.causal = CausalAlignment::kTopLeft;
  problems.push_back(p);
  p.eo = 300;  // several blocks of columns
  p.kind = TensorKind::kF16;
  problems.push_back(p);
  p.kind = TensorKind::kBF16;
  p.eo = 0;
  p.biases = false;
  problems.push_back(p);
  p.kind = TensorKind::kF32;
  problems.push_back(p);
  p.b = 33;  // more blocks of rows than runs of them
  p.tq = p.tk = 130;
  p.d = p.dv = 5;
  p.eo = 9;
  problems.push_back(p);
  return problems;
}

TEST(AblationWork, IsWhatTheDefinitionSays) {
  for (const oracle::Problem& problem : Problems()) {
    const auto bound = oracle::Bind(problem);
    for (const AblationMode mode : {AblationMode::kZero, AblationMode::kMean}) {
      const Exact exact = SolveHeads(*bound, mode);
      for (const std::vector<std::int64_t>& heads : {std::vector<std::int64_t>{}, {2}, {3, 0}}) {
        const Algorithm algorithm = heads.size() == 1 ? Algorithm::kNaive : Algorithm::kFlash;
        const Ablated got = Ablate(*bound, {heads, mode, problem.kind}, algorithm);
        SCOPED_TRACE(problem.Describe());
        const Vector want = Without(exact.output, exact.added, heads);
        EXPECT_EQ(oracle::Compare(oracle::Floats(got.output), want, problem.kind), "");
        if (!heads.empty()) {
          CheckChange(ChangeWithout(got.products, heads), ChangeBetween(exact.output, want), "off together");
        }
        for (std::int64_t h = 0; h < problem.hq; ++h) {
          CheckChange(ChangeWithout(got.products, {h}),
                      ChangeBetween(exact.output, Without(exact.output, exact.added, {h})), "alone");
        }
        if (mode == AblationMode::kZero) {
          EXPECT_TRUE(got.contribution.empty());
          continue;
        }
        Vector contribution(exact.mean_added[0].size());
        for (const std::int64_t h : heads) {
          const Vector& added = exact.mean_added[static_cast<std::size_t>(h)];
          std::transform(contribution.begin(), contribution.end(), added.begin(), contribution.begin(), std::plus<>());
        }
        EXPECT_EQ(oracle::Compare(oracle::Floats(got.contribution), contribution), "");
      }
    }
  }
}

TEST(AblationWork, TheSameBitsWithAnyNumberOfWorkers) {
  for (const oracle::Problem& problem : Problems()) {
    const auto bound = oracle::Bind(problem);
    const Ablation ablation{{1, 2}, AblationMode::kMean, problem.kind};
    const Ablated one = Ablate(*bound, ablation, Algorithm::kFlash, 1);
    for (const int threads : {2, 3}) {
      const Ablated more = Ablate(*bound, ablation, Algorithm::kFlash, threads);
      EXPECT_EQ(more.output.bytes, one.output.bytes);
      EXPECT_EQ(more.contribution.bytes, one.contribution.bytes);
      EXPECT_EQ(more.products.output_squared, one.products.output_squared);
      for (std::int64_t h = 0; h < problem.hq; ++h) {
        EXPECT_EQ(more.products.WithOutput(h), one.products.WithOutput(h));
        for (std::int64_t g = 0; g <= h; ++g) EXPECT_EQ(more.products.Pair(g, h), one.products.Pair(g, h));
      }
    }
  }
}

}  // namespace
}  // namespace headlight
