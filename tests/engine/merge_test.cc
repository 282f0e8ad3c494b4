#include "server/engine/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "absl/synchronization/notification.h"
#include "server/admission/compute_pool.h"
#include "server/base/errors.h"
#include "server/base/half.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Compare;
using oracle::Floats;
using oracle::Numbers;
using oracle::TensorOf;

// Parts with their data: 2 batches, 3 heads, so many rows that they are several tasks.
struct Given {
  MergeProblem problem;
  std::vector<OwnedTensor> owners;

  const TensorView& Add(TensorKind kind, Shape shape, const std::vector<float>& numbers) {
    owners.push_back(TensorOf(kind, std::move(shape), numbers));
    views.push_back(owners.back().view());
    return views.back();
  }
  std::vector<TensorView> views;
};

std::unique_ptr<Given> Make(TensorKind kind, HeadLayout layout, int parts) {
  auto given = std::make_unique<Given>();
  given->owners.reserve(16);
  given->views.reserve(16);
  MergeProblem& p = given->problem;
  p.batch = 2;
  p.heads = 3;
  p.tokens = 700;
  p.value_head_size = 40;
  p.layout = layout;
  p.output_kind = TensorKind::kF32;
  const Shape form = layout == HeadLayout::kHeadMajor ? Shape{2, 3, 700, 40} : Shape{2, 700, 120};
  p.output_shape = form;
  for (int i = 0; i < parts; ++i) {
    const auto seed = 2 * static_cast<std::uint64_t>(i) + 1;
    const TensorView& output = given->Add(kind, form, Numbers(seed, 2L * 3 * 700 * 40));
    std::vector<float> log_sum_exp = Numbers(seed + 1, 2L * 3 * 700);
    if (i == 0) log_sum_exp[5] = -std::numeric_limits<float>::infinity();
    p.partials.push_back({output, given->Add(TensorKind::kF32, {2, 3, 700}, log_sum_exp)});
  }
  p.sinks = {0.5F, -1, 2};
  p.head_gains = {1, 0, -2};
  return given;
}

// By the definition, in double, in the order of the outputs.
std::vector<double> Exact(const Given& given) {
  const MergeProblem& p = given.problem;
  std::vector<double> exact(static_cast<std::size_t>(p.batch * p.tokens * p.concat_width()));
  for (std::int64_t row = 0; row < p.batch * p.heads * p.tokens; ++row) {
    const std::int64_t b = row / p.tokens / p.heads, h = row / p.tokens % p.heads, t = row % p.tokens;
    const std::int64_t place = p.layout == HeadLayout::kHeadMajor ? row : (b * p.tokens + t) * p.heads + h;
    double sum = std::exp(double{p.sinks[static_cast<std::size_t>(h)]});
    for (const PartialViews& part : p.partials) {
      sum += std::exp(double{reinterpret_cast<const float*>(part.log_sum_exp.data)[row]});
    }
    for (std::size_t i = 0; i < p.partials.size(); ++i) {
      const double weight = std::exp(double{reinterpret_cast<const float*>(p.partials[i].log_sum_exp.data)[row]}) / sum;
      for (std::int64_t c = 0; c < p.value_head_size; ++c) {
        const std::int64_t at = place * p.value_head_size + c;
        exact[static_cast<std::size_t>(at)] += double{p.head_gains[static_cast<std::size_t>(h)]} * weight *
                                               double{ElementAsFloat(p.partials[i].output, at)};
      }
    }
  }
  return exact;
}

struct Merged {
  absl::Status status;
  OwnedTensor output, log_sum_exp;
};

Merged MergeOn(const MergeProblem& problem, int threads = 2) {
  MemoryAccount account(nullptr);
  MatmulCache matmuls(16);
  MergeWork work(problem, account, matmuls);
  ComputePool pool(threads);
  absl::Notification ended;
  Merged merged;
  pool.Run(std::make_shared<CallControl>(absl::InfiniteFuture()), &work, [&](const absl::Status& done) {
    merged.status = done;
    ended.Notify();
  });
  ended.WaitForNotification();
  merged.output = work.TakeOutput();
  merged.log_sum_exp = work.TakeLogSumExp();
  return merged;
}

TEST(Merge, JoinsPartsOfEveryKindAndForm) {
  for (const TensorKind kind : {TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16}) {
    for (const HeadLayout layout : {HeadLayout::kHeadMajor, HeadLayout::kTokenMajor}) {
      for (const int parts : {1, 2, 5}) {
        const auto given = Make(kind, layout, parts);
        const Merged merged = MergeOn(given->problem);
        ASSERT_TRUE(merged.status.ok()) << merged.status;
        EXPECT_EQ(Compare(Floats(merged.output), Exact(*given), TensorKind::kF32, 2), "");
      }
    }
  }
}

TEST(Merge, TheSameBitsWithAnyNumberOfThreads) {
  const auto given = Make(TensorKind::kF32, HeadLayout::kTokenMajor, 3);
  given->problem.output_weights = given->Add(TensorKind::kBF16, {120, 33}, Numbers(99, 120L * 33));
  given->problem.output_bias = given->Add(TensorKind::kF32, {33}, Numbers(98, 33));
  given->problem.output_shape = {2, 700, 33};
  given->problem.blocks = ChooseProjectionBlocks(120);
  const Merged alone = MergeOn(given->problem, 1);
  ASSERT_TRUE(alone.status.ok()) << alone.status;
  EXPECT_EQ(alone.output.shape, (Shape{2, 700, 33}));
  for (const int threads : {2, 3}) {
    const Merged merged = MergeOn(given->problem, threads);
    EXPECT_EQ(merged.output.bytes, alone.output.bytes);
    EXPECT_EQ(merged.log_sum_exp.bytes, alone.log_sum_exp.bytes);
  }
}

TEST(Merge, WhatNoPartSeesIsZeros) {
  const auto given = Make(TensorKind::kF32, HeadLayout::kHeadMajor, 1);  // its row 5 sees nothing
  Merged merged = MergeOn(given->problem);
  ASSERT_TRUE(merged.status.ok()) << merged.status;
  for (int c = 0; c < 40; ++c) EXPECT_EQ(merged.output.floats()[5 * 40 + c], 0);
  EXPECT_EQ(merged.log_sum_exp.floats()[5], -std::numeric_limits<float>::infinity());
}

TEST(Merge, NamesValuesThatAreNoNumbers) {
  const auto given = Make(TensorKind::kF32, HeadLayout::kHeadMajor, 2);
  given->owners[2].floats()[41] = std::nanf("");
  given->owners[3].floats()[700] = std::numeric_limits<float>::infinity();
  const std::vector<Violation> violations = DetailsOf(MergeOn(given->problem).status).violations;
  ASSERT_EQ(violations.size(), 2);
  EXPECT_EQ(violations[0].field, "partials[1].output");
  EXPECT_THAT(violations[0].got, testing::HasSubstr("[0, 0, 1, 1]"));
  EXPECT_EQ(violations[1].field, "partials[1].log_sum_exp");
  EXPECT_THAT(violations[1].got, testing::HasSubstr("[0, 1, 0]"));
}

TEST(Merge, AGainBeyondFloat32IsRefused) {
  const auto given = Make(TensorKind::kF32, HeadLayout::kHeadMajor, 2);
  given->owners[0].floats()[0] = 3e38F;
  given->problem.head_gains[0] = 3e38F;
  EXPECT_THAT(std::string(MergeOn(given->problem).status.message()), testing::HasSubstr("head_gains"));
}

}  // namespace
}  // namespace headlight
