#include <algorithm>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/kernels/cpu_target.h"
#include "server/kernels/matmul.h"
#include "tests/bench/bench.h"
#include "tests/bench/check.h"
#include "tests/bench/fma_peak.h"

namespace headlight::bench {
namespace {

// Q K^T of one tile of float32, 64 x 512 x 64, by oneDNN on one thread: one sample in GFLOP/s.
double SampleTile() {
  constexpr std::int64_t kRows = 64, kKeys = 512, kSize = 64;
  constexpr int kTimes = 200;
  static auto& cache = *new MatmulCache();
  static const auto& a = *new std::vector<float>(oracle::Numbers(1, kRows * kSize));
  static const auto& b = *new std::vector<float>(oracle::Numbers(2, kKeys * kSize));
  static auto& c = *new std::vector<float>(kRows * kKeys);
  const auto product = cache.Get({kRows, kKeys, kSize, kSize, kSize, kKeys, true, false});
  if (!product.ok() || !(*product)->Run(a.data(), b.data(), c.data()).ok()) return 0;
  const absl::Time began = absl::Now();
  for (int i = 0; i < kTimes; ++i) {
    if (!(*product)->Run(a.data(), b.data(), c.data()).ok()) return 0;
  }
  return kTimes * 2.0 * kRows * kKeys * kSize / absl::ToDoubleSeconds(absl::Now() - began) * 1e-9;
}

// Samples of one shape, taken in turn so that a drift of the machine's clock meets all of them.
struct Samples {
  std::vector<double> attend, total;
  double peak = 0, tile = 0;
  ExecutionRecord record;
  std::int64_t flops = 0;
};

absl::StatusOr<Samples> Sample(ComputePool& pool, const oracle::Bound& bound, int runs) {
  Samples samples;
  for (int run = 0; run <= runs; ++run) {
    samples.peak = std::max(samples.peak, SampleFmaPeak(pool.workers()));
    samples.tile = std::max(samples.tile, SampleTile());
    const auto ran = oracle::RunEngineOn(pool, bound, Algorithm::kFlash);
    if (!ran.ok()) return ran.status();
    if (run == 0) {  // checked, not timed
      const std::string offence = CheckFlash(pool, bound, (*ran)->result.output);
      if (!offence.empty()) return absl::DataLossError(offence);
      continue;
    }
    samples.record = (*ran)->record;
    samples.flops = (*ran)->plan.flops;
    samples.attend.push_back(samples.record.times[Stage::kAttend]);
    samples.total.push_back(samples.record.total_seconds);
  }
  return samples;
}

// The largest workspace of all shapes, in MiB.
struct Most {
  double scratch = 0, packed = 0;  // a worker's, a call's

  void Add(const ExecutionRecord& record) {
    constexpr double kMiB = 1 << 20;
    scratch = std::max(scratch, static_cast<double>(record.scratch_bytes) / record.workers / kMiB);
    packed = std::max(packed, static_cast<double>(record.packed_bytes) / kMiB);
  }
  void AddGoals(Report& report) const {
    if (scratch == 0) return;  // no shape was wanted
    report.AddGoal("most scratch of a worker, MiB", scratch, Report::Side::kAtMost, 1);
    report.AddGoal("most packed keys and values, MiB", packed, Report::Side::kAtMost, 16);
  }
};

void AddShape(const Case& c, TensorKind kind, const Samples& samples, Report& report) {
  const std::string name = absl::StrCat(NameOf(kind), " ", c.name);
  const Seconds attend = Summarize(samples.attend);
  const Seconds total = Summarize(samples.total);
  const auto flops = static_cast<double>(samples.flops) * 1e-9;
  const double share = flops / attend.best / samples.peak;
  const ExecutionRecord& record = samples.record;
  std::printf("%-22s %7.1f %7.1f %9.3f %9.3f %6.0f %5.0f%% %6.0f %9lld %9lld %9lld\n", name.c_str(),
              flops / attend.best, flops / attend.median, 1e3 * total.best, 1e3 * total.median, samples.peak,
              100 * share, samples.tile, static_cast<long long>(record.scratch_bytes >> 10),
              static_cast<long long>(record.packed_bytes >> 10), static_cast<long long>(record.workspace_bytes >> 10));
  std::fflush(stdout);
  report.AddRow({{"name", c.name},
                 {"kind", std::string(NameOf(kind))},
                 {"flops", samples.flops},
                 {"attend_seconds", {{"best", attend.best}, {"median", attend.median}}},
                 {"total_seconds", {{"best", total.best}, {"median", total.median}}},
                 {"gflops", {{"best", flops / attend.best}, {"median", flops / attend.median}}},
                 {"fma_peak_gflops", samples.peak},
                 {"share_of_peak", share},
                 {"tile_gflops", samples.tile},
                 {"workers", record.workers},
                 {"scratch_bytes", record.scratch_bytes},
                 {"packed_bytes", record.packed_bytes},
                 {"workspace_bytes", record.workspace_bytes}});
  if (c.goal.has_value() && kind == TensorKind::kF32 && ActiveCpuTarget() == CpuTarget::kAvx512) {
    report.AddGoal(name + ", share of the FMA peak", share, Report::Side::kAtLeast, *c.goal);
  }
}

}  // namespace

absl::Status RunKernels(const Options& options) {
  const auto cases = ReadShapes(options.shapes + "/kernels.txt");
  if (!cases.ok()) return cases.status();
  const auto maps = ReadShapes(options.shapes + "/maps.txt");
  if (!maps.ok()) return maps.status();
  std::vector<Case> all = *cases;
  all.insert(all.end(), maps->begin(), maps->end());
  if (absl::Status status = CheckWanted(options.only, all); !status.ok()) return status;
  Report report(absl::StrCat(
      "flash, ", options.threads, options.threads == 1 ? " thread" : " threads", ", best and median of ", options.runs,
      " runs; a causal call counts the pairs that may attend;\nthe peak is that of float32 on these "
      "threads, which bf16 may exceed, oneDNN's tile one thread's"));
  std::printf("%-22s %15s %19s %6s %6s %6s %29s\n", "", "GFLOP/s, attend", "whole call, ms", "FMA", "of", "oneDNN",
              "workspace KiB");
  std::printf("%-22s %7s %7s %9s %9s %6s %6s %6s %9s %9s %9s\n", "shape", "best", "median", "best", "median", "peak",
              "peak", "tile", "scratch", "packed", "total");
  ComputePool pool(options.threads);
  Most most;
  for (const Case& c : *cases) {
    if (!IsWanted(options.only, c.name)) continue;
    for (const TensorKind kind : c.kinds) {
      const auto bound = oracle::Bind(ProblemOf(c, kind));
      const auto samples = Sample(pool, *bound, options.runs);
      if (!samples.ok()) {
        return absl::Status(samples.status().code(),
                            absl::StrCat(NameOf(kind), " ", c.name, ": ", samples.status().message()));
      }
      AddShape(c, kind, *samples, report);
      most.Add(samples->record);
    }
  }
  most.AddGoals(report);
  if (absl::Status status = TimeMaps(options, *maps, report); !status.ok()) return status;
  return report.Finish(options.json);
}

}  // namespace headlight::bench
