// What every benchmark says beside its numbers: the machine, the goals, and all of it as JSON.
#ifndef HEADLIGHT_TESTS_BENCH_REPORT_H_
#define HEADLIGHT_TESTS_BENCH_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace headlight::bench {

// Seconds of several runs.
struct Seconds {
  double best = 0;
  double median = 0;
};
// REQUIRES: there is one at least.
Seconds Summarize(std::vector<double> seconds);

// Between the two in the middle of an even number. REQUIRES: there is one at least.
double Median(std::vector<double> values);

// The value that this share (0..1) of the values does not exceed. REQUIRES: there is one at least.
double Percentile(std::vector<double> values, double share);

// Processor, cores, CPU target, versions of oneDNN and Highway.
nlohmann::json DescribeMachine();

class Report {
 public:
  // Prints what is measured, and where.
  explicit Report(absl::string_view title);

  enum class Side { kAtLeast, kAtMost };
  void AddGoal(std::string what, double measured, Side side, double goal);
  void AddRow(nlohmann::json row) { rows_.push_back(std::move(row)); }

  // Prints each goal and whether it was met; writes all to `path` unless that is empty.
  absl::Status Finish(const std::string& path) const;

 private:
  nlohmann::json machine_, rows_ = nlohmann::json::array(), goals_ = nlohmann::json::array();
  std::string title_;
};

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_REPORT_H_
