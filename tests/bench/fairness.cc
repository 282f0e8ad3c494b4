#include <algorithm>
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/check.h"

namespace headlight::bench {
namespace {

// Clients that call again as soon as they are answered, until they are destroyed.
class EndlessCalls {
 public:
  EndlessCalls(ComputePool& pool, const oracle::Bound& bound, int clients) {
    for (int i = 0; i < clients; ++i) {
      threads_.emplace_back([this, &pool, &bound] {
        while (!ended_.load()) {
          if (!oracle::RunEngineOn(pool, bound, Algorithm::kFlash).ok()) failed_ = true;
        }
      });
    }
  }
  // Waits for the calls in flight.
  ~EndlessCalls() {
    ended_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  EndlessCalls(const EndlessCalls&) = delete;
  EndlessCalls& operator=(const EndlessCalls&) = delete;

  bool failed() const { return failed_.load(); }

 private:
  std::atomic<bool> ended_{false}, failed_{false};
  std::vector<std::thread> threads_;
};

// Seconds from before the call's check to its answer, one call after the other.
absl::Status Call(ComputePool& pool, const oracle::Bound& bound, int calls, std::vector<double>& seconds) {
  for (int i = 0; i < calls; ++i) {
    const absl::Time began = absl::Now();
    const auto ran = oracle::RunEngineOn(pool, bound, Algorithm::kFlash);
    if (!ran.ok()) return ran.status();
    seconds.push_back(absl::ToDoubleSeconds(absl::Now() - began));
  }
  return absl::OkStatus();
}

absl::Status CheckFirst(ComputePool& pool, const oracle::Bound& bound) {
  const auto ran = oracle::RunEngineOn(pool, bound, Algorithm::kFlash);
  if (!ran.ok()) return ran.status();
  const std::string offence = CheckRows(SomeRows(bound, 16), bound, (*ran)->result.output);
  return offence.empty() ? absl::OkStatus() : absl::DataLossError(offence);
}

void AddRow(const char* name, const std::vector<double>& seconds, Report& report) {
  const double p50 = Percentile(seconds, 0.5), p99 = Percentile(seconds, 0.99);
  std::printf("%-10s %8zu %10.3f %10.3f %10.3f\n", name, seconds.size(), 1e3 * p50, 1e3 * p99,
              1e3 * Percentile(seconds, 1));
  report.AddRow({{"name", name},
                 {"calls", seconds.size()},
                 {"p50_seconds", p50},
                 {"p99_seconds", p99},
                 {"largest_seconds", Percentile(seconds, 1)}});
}

}  // namespace

absl::Status RunFairness(const Options& options, const FairnessOptions& fairness) {
  constexpr int kRounds = 4;  // alone and beside in turn
  const auto cases = ReadShapes(options.shapes + "/fairness.txt");
  if (!cases.ok()) return cases.status();
  if (cases->size() != 2 || !cases->front().goal) return absl::InvalidArgumentError("fairness.txt: two shapes, a goal");
  const auto small = oracle::Bind(ProblemOf(cases->front(), TensorKind::kF32));
  const auto large = oracle::Bind(ProblemOf(cases->back(), TensorKind::kF32));
  Report report(absl::StrCat("calls of ", small->problem.tq, " tokens, alone and beside ", fairness.beside,
                             " endless of ", large->problem.tq, ", on one pool of ", options.threads, " workers"));
  ComputePool pool(options.threads);
  for (const auto* bound : {small.get(), large.get()}) {
    if (absl::Status status = CheckFirst(pool, *bound); !status.ok()) return status;
  }
  std::vector<double> alone, beside;
  for (int round = 0; round < kRounds; ++round) {
    const int calls = std::max(fairness.calls / kRounds, 1);
    if (absl::Status status = Call(pool, *small, calls, alone); !status.ok()) return status;
    EndlessCalls others(pool, *large, fairness.beside);
    absl::SleepFor(absl::Milliseconds(50));  // they are under way
    if (absl::Status status = Call(pool, *small, calls, beside); !status.ok()) return status;
    if (others.failed()) return absl::InternalError("a long call failed");
  }
  std::printf("%-10s %8s %10s %10s %10s\n", "", "calls", "p50 ms", "p99 ms", "largest");
  AddRow("alone", alone, report);
  AddRow("beside", beside, report);
  const double times = Percentile(beside, 0.99) / Percentile(alone, 0.99);
  if (fairness.beside == 1) {
    report.AddGoal("p99 beside, times p99 alone", times, Report::Side::kAtMost, *cases->front().goal);
  } else {
    std::printf("p99 beside is %.2f times p99 alone; the goal is one for a single long call\n", times);
  }
  return report.Finish(options.json);
}

}  // namespace headlight::bench
