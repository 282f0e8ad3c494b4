#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "tests/bench/bench.h"
#include "tests/bench/check.h"

namespace headlight::bench {
namespace {

// What the first word of a shape's name asks for beside the answer.
absl::StatusOr<OutputsForm> OutputsOf(const std::string& name) {
  const std::string word = name.substr(0, name.find('-'));
  OutputsForm outputs;
  outputs.maps.resize(word == "statistics" ? 0 : 1);
  if (word == "statistics") {
    outputs.head_statistics = true;
  } else if (word == "top8") {
    outputs.maps[0].top_k = 8;
  } else if (word == "pooled") {
    outputs.maps[0].pooled = PooledForm{64, 64, PoolReducer::kMean};
  } else if (word == "columns") {
    outputs.maps[0].column_sums = true;
  } else if (word != "maps") {
    return absl::InvalidArgumentError(absl::StrCat("no outputs are called ", word));
  }
  return outputs;
}

// The heads' results stand by head; weights of some rows beside what they are in double.
std::string CheckFullMaps(const std::vector<ExactRow>& rows, const std::vector<MapResult>& maps) {
  for (const ExactRow& row : rows) {
    const MapResult& map = maps.at(static_cast<std::size_t>(row.head));
    for (std::size_t j = 0; j < row.weights.size(); ++j) {
      const float got = map.weights.floats()[static_cast<std::size_t>(row.row) * row.weights.size() + j];
      if (!(std::fabs(got - row.weights[j]) <= 1e-5))
        return absl::StrCat("weight ", j, ": ", got, ", not ", row.weights[j]);
    }
  }
  return {};
}

std::string CheckTopKeys(const std::vector<ExactRow>& rows, const std::vector<MapResult>& maps) {
  for (const ExactRow& row : rows) {
    const TopKeys& top = maps.at(static_cast<std::size_t>(row.head)).top_keys;
    std::vector<double> largest = row.weights;
    std::sort(largest.rbegin(), largest.rend());
    for (std::int64_t i = 0; i < top.k; ++i) {
      const auto at = static_cast<std::size_t>(row.row * top.k + i);
      const double got = top.weights.at(at);
      if (!(std::fabs(got - largest.at(static_cast<std::size_t>(i))) <= 1e-5) ||
          !(std::fabs(got - row.weights.at(top.keys.at(at))) <= 1e-5)) {
        return absl::StrCat("top weight ", i, " of row ", row.row, ": ", got);
      }
    }
  }
  return {};
}

// What is made of all rows, by what it must add up to: column sums to the number of rows, means of weights to one a
// row, and an entropy is at most that of equal weights.
std::string CheckSums(const oracle::Problem& p, const oracle::Ran& ran) {
  for (const HeadStatistics& head : ran.statistics) {
    const double most = std::log(static_cast<double>(p.tk));
    if (!(head.mean_entropy > 0 && head.mean_entropy <= most)) return absl::StrCat("entropy ", head.mean_entropy);
  }
  for (const auto& maps : ran.maps) {
    for (const MapResult& map : maps) {
      const std::vector<float> numbers = oracle::Floats(map.weights);
      double sum = 0;
      for (const float x : numbers) sum += x;
      const bool pooled = map.weights.shape.size() == 2;
      const double want =
          pooled ? static_cast<double>(numbers.size()) / static_cast<double>(p.tk) : static_cast<double>(p.tq);
      if (!(std::fabs(sum / want - 1) <= 1e-4)) return absl::StrCat("the map adds up to ", sum, ", not to ", want);
    }
  }
  return {};
}

std::string Check(const oracle::Bound& bound, const oracle::Ran& ran) {
  const std::vector<ExactRow> rows = SomeRows(bound, 8);
  if (std::string offence = CheckRows(rows, bound, ran.result.output); !offence.empty()) return offence;
  const OutputsForm& outputs = bound.problem.outputs;
  if (outputs.head_statistics || outputs.maps[0].column_sums || outputs.maps[0].pooled) {
    return CheckSums(bound.problem, ran);
  }
  return outputs.maps[0].top_k ? CheckTopKeys(rows, ran.maps.at(0)) : CheckFullMaps(rows, ran.maps.at(0));
}

// Seconds of the same problem with and without, taken in turn.
struct Pair {
  std::vector<double> with, without;
};

absl::StatusOr<Pair> Sample(ComputePool& pool, const Case& c, int runs) {
  Pair pair;
  const auto outputs = OutputsOf(c.name);
  if (!outputs.ok()) return outputs.status();
  oracle::Problem problem = ProblemOf(c, TensorKind::kF32);
  const auto without = oracle::Bind(problem);
  problem.outputs = *outputs;
  const auto with = oracle::Bind(problem);
  for (int run = 0; run <= runs; ++run) {
    for (const bool asks : {false, true}) {
      const auto ran = oracle::RunEngineOn(pool, asks ? *with : *without, Algorithm::kFlash);
      if (!ran.ok()) return ran.status();
      if (run > 0) {
        (asks ? pair.with : pair.without).push_back((*ran)->record.total_seconds);
      } else if (asks) {  // checked, not timed
        const std::string offence = Check(*with, **ran);
        if (!offence.empty()) return absl::DataLossError(absl::StrCat(c.name, ": ", offence));
      }
    }
  }
  return pair;
}

}  // namespace

absl::Status TimeMaps(const Options& options, const std::vector<Case>& cases, Report& report) {
  if (std::none_of(cases.begin(), cases.end(), [&options](const Case& c) { return IsWanted(options.only, c.name); })) {
    return absl::OkStatus();
  }
  std::printf("\n%-22s %19s %19s %7s\n", "", "without, ms", "with, ms", "median");
  std::printf("%-22s %9s %9s %9s %9s %7s\n", "outputs", "best", "median", "best", "median", "ratio");
  ComputePool pool(options.threads);
  for (const Case& c : cases) {
    if (!IsWanted(options.only, c.name)) continue;
    const auto pair = Sample(pool, c, options.runs);
    if (!pair.ok()) return pair.status();
    const Seconds with = Summarize(pair->with);
    const Seconds without = Summarize(pair->without);
    std::vector<double> ratios;
    for (std::size_t i = 0; i < pair->with.size(); ++i) ratios.push_back(pair->with[i] / pair->without[i]);
    const double ratio = Median(ratios);
    std::printf("%-22s %9.3f %9.3f %9.3f %9.3f %7.2f\n", c.name.c_str(), 1e3 * without.best, 1e3 * without.median,
                1e3 * with.best, 1e3 * with.median, ratio);
    std::fflush(stdout);
    report.AddRow({{"name", c.name},
                   {"without_seconds", {{"best", without.best}, {"median", without.median}}},
                   {"with_seconds", {{"best", with.best}, {"median", with.median}}},
                   {"ratio", ratio}});
    if (c.goal) report.AddGoal(c.name + ", times the time without", ratio, Report::Side::kAtMost, *c.goal);
  }
  return absl::OkStatus();
}

}  // namespace headlight::bench
