#include <algorithm>
#include <cstdio>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/bench/bench.h"

namespace headlight::bench {
namespace {

// A form of call whose units are timed, at sizes where its units are as long as they get.
struct Form {
  std::string name;
  oracle::Problem problem;
  Algorithm algorithm = Algorithm::kFlash;
  bool nan_values = false;  // nothing else in V
};

oracle::Problem Square(std::int64_t tokens, std::int64_t heads, std::int64_t head_size) {
  oracle::Problem p;
  p.tq = p.tk = tokens;
  p.hq = p.hkv = heads;
  p.d = p.dv = head_size;
  return p;
}

oracle::Problem WithMap(oracle::Problem p, const MapForm& map) {
  p.outputs.maps.push_back(map);
  return p;
}

// Every second key, by a mask of one head.
oracle::Problem WithMask(oracle::Problem p) {
  p.mask_kind = TensorKind::kBool;
  p.mask_shape = {1, 1, p.tq, p.tk};
  for (std::int64_t i = 0; i < p.tq * p.tk; ++i) p.mask.push_back(static_cast<float>(i % 2));
  return p;
}

std::vector<Form> Forms() {
  std::vector<Form> forms;
  const auto add = [&forms](const char* name, oracle::Problem problem, Algorithm algorithm = Algorithm::kFlash) {
    forms.push_back({name, std::move(problem), algorithm});
    return &forms.back();
  };
  add("flash", Square(8192, 1, 64));
  add("flash, D 512", Square(2048, 1, 512));
  oracle::Problem p = Square(8192, 1, 64);
  p.kind = TensorKind::kBF16;
  p.precision = ComputePrecision::kBFloat16;
  add("flash, bfloat16", p);
  add("naive", Square(8192, 1, 64), Algorithm::kNaive);
  add("naive, T 16384", Square(16384, 1, 64), Algorithm::kNaive);
  add("naive, D 512", Square(2048, 1, 512), Algorithm::kNaive);
  p = Square(2048, 8, 64);
  p.e = p.eo = 1024;
  add("embeddings of 1024", p);
  p = Square(8192, 1, 64);
  p.position.kind = PositionKind::kAlibi;
  add("ALiBi", p);
  add("ALiBi, mask tensor", WithMask(p));
  for (std::int64_t i = 0; i < p.tk; ++i) p.position.key_positions.push_back(3 * i);
  p.position.query_positions = p.position.key_positions;
  add("ALiBi, positions", p);
  p = Square(2048, 8, 64);
  p.allow_non_finite = true;
  add("nothing but NaN in V", p)->nan_values = true;
  p = Square(8192, 1, 64);
  p.outputs.head_statistics = true;
  add("statistics", p);
  add("8 full maps", WithMap(Square(1024, 8, 64), {}));
  MapForm map;
  map.top_k = 8;
  add("top 8 keys", WithMap(Square(8192, 1, 64), map));
  map = {};
  map.column_sums = true;
  add("column sums", WithMap(Square(8192, 1, 64), map));
  map = {};
  map.pooled = PooledForm{512, 512, PoolReducer::kMean};
  add("pooled 512 x 512", WithMap(Square(8192, 1, 64), map));
  return forms;
}

// Seconds of every unit and of every phase's beginning of one run by one worker, in order.
struct Run {
  std::vector<double> units, begins;
};

absl::StatusOr<Run> TimeUnits(const oracle::Bound& bound, Algorithm algorithm) {
  Run run;
  Limits limits;
  limits.max_workspace_bytes = std::int64_t{2} << 30;
  const auto timed = [](const auto& step, std::vector<double>& seconds) {
    const std::int64_t began = absl::GetCurrentTimeNanos();
    const auto got = step();
    seconds.push_back(static_cast<double>(absl::GetCurrentTimeNanos() - began) * 1e-9);
    return got;
  };
  const auto by_hand = [&](Work& work) -> absl::Status {
    for (;;) {
      const absl::StatusOr<int> lanes = timed([&work] { return work.BeginPhase(1); }, run.begins);
      if (!lanes.ok() || *lanes == 0) return lanes.status();
      for (bool more = true; more;) {
        const absl::StatusOr<bool> ran = timed([&work] { return work.RunUnit(0); }, run.units);
        if (!ran.ok()) return ran.status();
        more = *ran;
      }
    }
  };
  const auto ran = oracle::RunEngineBy(by_hand, bound, algorithm, limits);
  if (!ran.ok()) return ran.status();
  return run;
}

// The same units run in the same order each time: the least of several times is the unit's own, without what the
// machine did meanwhile.
void TakeLeast(const std::vector<double>& other, std::vector<double>& least) {
  for (std::size_t i = 0; i < least.size(); ++i) least[i] = std::min(least[i], other.at(i));
}

}  // namespace

absl::Status RunUnits(const Options& options) {
  Report report(absl::StrCat("units of one worker, each the least of ", options.runs, " runs"));
  std::printf("%-24s %8s %10s %10s %12s\n", "", "units", "p50 ms", "longest", "phase begin");
  double longest = 0;
  for (const Form& form : Forms()) {
    const auto bound = oracle::Bind(form.problem);
    if (form.nan_values) {
      std::fill_n(bound->value.floats(), ElementCount(bound->value.shape).value_or(0),
                  std::numeric_limits<float>::quiet_NaN());
    }
    absl::StatusOr<Run> least = TimeUnits(*bound, form.algorithm);
    for (int run = 1; run < options.runs && least.ok(); ++run) {
      const absl::StatusOr<Run> other = TimeUnits(*bound, form.algorithm);
      if (!other.ok()) return other.status();
      TakeLeast(other->units, least->units);
      TakeLeast(other->begins, least->begins);
    }
    if (!least.ok())
      return absl::Status(least.status().code(), absl::StrCat(form.name, ": ", least.status().message()));
    const double unit = Percentile(least->units, 1), begin = Percentile(least->begins, 1);
    longest = std::max(longest, unit);
    std::printf("%-24s %8zu %10.3f %10.3f %12.3f\n", form.name.c_str(), least->units.size(),
                1e3 * Percentile(least->units, 0.5), 1e3 * unit, 1e3 * begin);
    std::fflush(stdout);
    report.AddRow({{"name", form.name},
                   {"units", least->units.size()},
                   {"p50_seconds", Percentile(least->units, 0.5)},
                   {"longest_seconds", unit},
                   {"longest_phase_begin_seconds", begin}});
  }
  report.AddGoal("longest unit, in milliseconds", 1e3 * longest, Report::Side::kAtMost, 1);
  return report.Finish(options.json);
}

}  // namespace headlight::bench
