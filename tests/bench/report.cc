#include "tests/bench/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/kernels/cpu_target.h"
#include "server/kernels/matmul.h"

namespace headlight::bench {
namespace {

// The first value of this key in /proc/cpuinfo, as lscpu shows it.
std::string CpuInfo(absl::string_view key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos && absl::StartsWith(line, key)) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

Seconds Summarize(std::vector<double> seconds) {
  return {*std::min_element(seconds.begin(), seconds.end()), Median(seconds)};
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  return values[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
}

nlohmann::json DescribeMachine() {
  const std::string flags = absl::StrCat(" ", CpuInfo("flags"), " ");
  return {{"processor", CpuInfo("model name")},
          {"cores", std::thread::hardware_concurrency()},
          {"avx512_bf16", flags.find(" avx512_bf16 ") != std::string::npos},
          {"cpu_target", std::string(NameOf(ActiveCpuTarget()))},
          {"onednn", MatmulLibraryVersion()},
          {"highway", SimdLibraryVersion()}};
}

Report::Report(absl::string_view title) : machine_(DescribeMachine()), title_(title) {
  std::printf("%s\n%s, %d cores; CPU target %s; oneDNN %s, Highway %s\n", title_.c_str(),
              machine_["processor"].get<std::string>().c_str(), machine_["cores"].get<int>(),
              machine_["cpu_target"].get<std::string>().c_str(), machine_["onednn"].get<std::string>().c_str(),
              machine_["highway"].get<std::string>().c_str());
  std::fflush(stdout);
}

void Report::AddGoal(std::string what, double measured, Side side, double goal) {
  const bool at_least = side == Side::kAtLeast;
  goals_.push_back({{"what", std::move(what)},
                    {"measured", measured},
                    {at_least ? "at_least" : "at_most", goal},
                    {"met", at_least ? measured >= goal : measured <= goal}});
}

absl::Status Report::Finish(const std::string& path) const {
  if (!goals_.empty()) std::printf("\n%-44s %10s %10s\n", "goal", "measured", "wanted");
  for (const nlohmann::json& goal : goals_) {
    const bool at_least = goal.contains("at_least");
    std::printf("%-44s %10.2f %2s %7.2f  %s\n", goal["what"].get<std::string>().c_str(), goal["measured"].get<double>(),
                at_least ? ">=" : "<=", goal[at_least ? "at_least" : "at_most"].get<double>(),
                goal["met"].get<bool>() ? "met" : "not met");
  }
  std::fflush(stdout);
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path);
  file << nlohmann::json{{"title", title_}, {"machine", machine_}, {"rows", rows_}, {"goals", goals_}}.dump(1) << "\n";
  file.close();
  return file ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("cannot write ", path));
}

}  // namespace headlight::bench
