#include <cstdio>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/check.h"

namespace headlight::bench {
namespace {

// The most memory that the process held since its start, or since ForgetPeak; 0 where the system does not say.
std::int64_t PeakRss() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    std::int64_t kib = 0;
    const std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.size() > 1 && words[0] == "VmHWM:" && absl::SimpleAtoi(words[1], &kib)) return kib << 10;
  }
  return 0;
}

// What the making of inputs took is not the call's. Where the system refuses, the peak has it too.
void ForgetPeak() { std::ofstream("/proc/self/clear_refs") << "5\n"; }

}  // namespace

absl::Status RunPoint(const Options& options, const PointOptions& point) {
  oracle::Problem problem;
  problem.hq = problem.hkv = 8;
  problem.d = problem.dv = 64;
  problem.tq = problem.tk = point.tokens;
  const auto bound = oracle::Bind(problem);
  Limits limits;  // growth is looked at beyond what a server takes
  limits.max_tokens = point.tokens;
  limits.max_flops = std::int64_t{1} << 62;
  const Algorithm algorithm = point.naive ? Algorithm::kNaive : Algorithm::kFlash;
  ComputePool pool(options.threads);
  ForgetPeak();
  auto ran = oracle::RunEngineOn(pool, *bound, algorithm, limits);
  if (!ran.ok()) return ran.status();
  const std::int64_t peak_rss = PeakRss();
  const std::string offence = CheckRows(SomeRows(*bound, 8), *bound, (*ran)->result.output);
  if (!offence.empty()) return absl::DataLossError(offence);
  std::vector<double> seconds;
  const absl::Time began = absl::Now();
  do {
    ran = oracle::RunEngineOn(pool, *bound, algorithm, limits);
    if (!ran.ok()) return ran.status();
    seconds.push_back((*ran)->record.total_seconds);
  } while (absl::Now() - began < absl::Seconds(point.seconds));
  const ExecutionRecord& record = (*ran)->record;
  const Seconds summary = Summarize(seconds);
  const nlohmann::json line = {{"tokens", point.tokens},
                               {"algorithm", std::string(NameOf(algorithm))},
                               {"threads", options.threads},
                               {"runs", seconds.size()},
                               {"best_seconds", summary.best},
                               {"median_seconds", summary.median},
                               {"flops", (*ran)->plan.flops},
                               {"scratch_bytes", record.scratch_bytes},
                               {"packed_bytes", record.packed_bytes},
                               {"workspace_bytes", record.workspace_bytes},
                               {"input_bytes", 3 * bound->query.bytes.size()},
                               {"output_bytes", (*ran)->result.output.bytes.size()},
                               {"peak_rss_bytes", peak_rss},
                               {"machine", DescribeMachine()}};
  std::printf("%s\n", line.dump().c_str());
  return absl::OkStatus();
}

}  // namespace headlight::bench
