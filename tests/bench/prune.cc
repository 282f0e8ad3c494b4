#include "server/layers/prune.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/bench/bench.h"

namespace headlight::bench {
namespace {

constexpr std::int64_t kHeads = 12;

// A layer of GPT-2's size over 512 tokens.
oracle::Problem LayerOf(std::int64_t heads) {
  oracle::Problem p;
  p.hq = p.hkv = heads;
  p.d = p.dv = 64;
  p.e = p.eo = 64 * kHeads;
  p.tq = p.tk = 512;
  return p;
}

// In place, since views point there.
void Copy(const OwnedTensor& from, OwnedTensor& to) {
  std::copy(from.bytes.begin(), from.bytes.end(), to.bytes.begin());
}

// A call of the layer without its first heads, as PruneLayer removes them, or why there is none.
absl::StatusOr<std::unique_ptr<oracle::Bound>> Prune(const oracle::Bound& whole, std::int64_t removed) {
  LayerMatrices matrices;
  matrices.query = whole.wq;
  matrices.key = whole.wk;
  matrices.value = whole.wv;
  matrices.output = whole.wo;
  const Layer layer({}, kHeads, kHeads, std::move(matrices));
  std::vector<std::int64_t> heads(static_cast<std::size_t>(removed));
  std::iota(heads.begin(), heads.end(), 0);
  const absl::StatusOr<PrunePlan> plan = PlanPrune(layer, heads, 0, 0);
  if (!plan.ok()) return plan.status();
  auto bound = oracle::Bind(LayerOf(kHeads - removed));
  Copy(PruneField(layer, *plan, LayerField::kQuery), bound->wq);
  Copy(PruneField(layer, *plan, LayerField::kKey), bound->wk);
  Copy(PruneField(layer, *plan, LayerField::kValue), bound->wv);
  Copy(PruneField(layer, *plan, LayerField::kOutput), bound->wo);
  Copy(whole.embeddings, bound->embeddings);
  return bound;
}

// Relative L2 of what pruning answers against the whole layer with the same heads at gain 0.
absl::StatusOr<double> Difference(ComputePool& pool, const oracle::Bound& pruned, std::int64_t removed) {
  oracle::Problem ablated = LayerOf(kHeads);
  ablated.head_gains.assign(kHeads, 1);
  std::fill_n(ablated.head_gains.begin(), removed, 0.0F);
  const auto expected = oracle::RunEngineOn(pool, *oracle::Bind(ablated), Algorithm::kFlash);
  if (!expected.ok()) return expected.status();
  const auto got = oracle::RunEngineOn(pool, pruned, Algorithm::kFlash);
  if (!got.ok()) return got.status();
  const OwnedTensor& a = (*got)->result.output;
  const OwnedTensor& b = (*expected)->result.output;
  double difference = 0, all = 0;
  for (std::size_t i = 0; i < a.bytes.size() / sizeof(float); ++i) {
    difference += std::pow(a.floats()[i] - b.floats()[i], 2);
    all += std::pow(b.floats()[i], 2);
  }
  return std::sqrt(difference / all);
}

}  // namespace

absl::Status RunPrune(const Options& options) {
  Report report(absl::StrCat("a layer of ", kHeads, " heads of 64, E 768, T 512, with heads removed; ", options.threads,
                             " workers, medians of ", options.runs, " calls in turn with the whole layer"));
  ComputePool pool(options.threads);
  const auto whole = oracle::Bind(LayerOf(kHeads));
  std::printf("%5s %12s %10s %10s %10s %12s\n", "heads", "bytes", "ms", "of whole", "of FLOPs", "difference");
  for (const std::int64_t removed : {3, 6, 9}) {
    const auto pruned = Prune(*whole, removed);
    if (!pruned.ok()) return pruned.status();
    const absl::StatusOr<double> difference = Difference(pool, **pruned, removed);
    if (!difference.ok()) return difference.status();
    if (*difference > 1e-6)
      return absl::DataLossError(absl::StrCat(removed, " heads: ", *difference, " from ablation"));
    std::vector<double> with, without;
    std::int64_t flops[2] = {0, 0};
    for (int run = 0; run < options.runs; ++run) {
      for (const bool is_whole : {true, false}) {
        const absl::Time began = absl::Now();
        const auto ran = oracle::RunEngineOn(pool, is_whole ? *whole : **pruned, Algorithm::kFlash);
        if (!ran.ok()) return ran.status();
        (is_whole ? with : without).push_back(absl::ToDoubleSeconds(absl::Now() - began));
        flops[is_whole ? 0 : 1] = (*ran)->plan.flops;
      }
    }
    const double ratio = Median(without) / Median(with);
    const double share = static_cast<double>(flops[1]) / static_cast<double>(flops[0]);
    const oracle::Bound& b = **pruned;
    const std::size_t bytes = b.wq.bytes.size() + b.wk.bytes.size() + b.wv.bytes.size() + b.wo.bytes.size();
    std::printf("%5d %12zu %10.3f %10.3f %10.3f %12.1e\n", static_cast<int>(kHeads - removed), bytes,
                1e3 * Median(without), ratio, share, *difference);
    report.AddRow({{"heads", kHeads - removed},
                   {"bytes", bytes},
                   {"median_seconds", Median(without)},
                   {"of_whole", ratio},
                   {"flops_of_whole", share},
                   {"relative_l2_from_ablation", *difference}});
    report.AddGoal(absl::StrCat(removed, " heads fewer, time of whole"), ratio, Report::Side::kAtMost, share + 0.1);
  }
  return report.Finish(options.json);
}

}  // namespace headlight::bench
