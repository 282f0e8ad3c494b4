#include "tests/bench/shapes.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace headlight::bench {
namespace {

// Sizes that make a problem whose largest tensor has less than 2^28 numbers.
bool HasGoodSizes(const oracle::Problem& p) {
  constexpr std::int64_t kMost = 1 << 28;
  for (const std::int64_t size : {p.b, p.hq, p.hkv, p.tq, p.tk, p.d, p.dv}) {
    if (size < 1 || size > kMost) return false;
  }
  const double rows = static_cast<double>(p.b) * static_cast<double>(std::max(p.tq, p.tk));
  const double numbers = rows * static_cast<double>(std::max(p.hq, p.hkv) * std::max(p.d, p.dv));
  return p.hq % p.hkv == 0 && numbers < kMost;
}

bool ParseCase(const std::string& line, Case& c) {
  oracle::Problem& p = c.problem;
  std::string causal, kinds, goal, more;
  std::istringstream words(line);
  words >> c.name >> p.b >> p.hq >> p.hkv >> p.tq >> p.tk >> p.d >> p.dv >> causal >> kinds >> goal;
  if (words.fail() || (words >> more) || (causal != "0" && causal != "1")) return false;
  if (!HasGoodSizes(p)) return false;
  if (causal == "1") p.causal = CausalAlignment::kBottomRight;
  for (const absl::string_view kind : absl::StrSplit(kinds, ',')) {
    if (kind != "f32" && kind != "bf16") return false;
    c.kinds.push_back(kind == "f32" ? TensorKind::kF32 : TensorKind::kBF16);
  }
  double number = 0;
  if (goal == "-") return true;
  if (!absl::SimpleAtod(goal, &number)) return false;
  c.goal = number;
  return true;
}

}  // namespace

absl::StatusOr<std::vector<Case>> ReadShapes(const std::string& path) {
  std::ifstream file(path);
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    Case c;
    if (!ParseCase(line, c)) return absl::InvalidArgumentError(absl::StrCat(path, ": not a shape: ", line));
    cases.push_back(std::move(c));
  }
  if (cases.empty()) return absl::NotFoundError(absl::StrCat("no shapes in ", path));
  return cases;
}

oracle::Problem ProblemOf(const Case& c, TensorKind kind) {
  oracle::Problem problem = c.problem;
  problem.kind = kind;
  if (kind == TensorKind::kBF16) problem.precision = ComputePrecision::kBFloat16;
  return problem;
}

absl::Status CheckWanted(absl::string_view only, const std::vector<Case>& cases) {
  if (only.empty()) return absl::OkStatus();
  const auto name_of = [](std::string* out, const Case& c) { absl::StrAppend(out, c.name); };
  for (const absl::string_view name : absl::StrSplit(only, ',')) {
    if (std::any_of(cases.begin(), cases.end(), [name](const Case& c) { return c.name == name; })) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("no shape is called '", name, "'; there are ", absl::StrJoin(cases, ", ", name_of)));
  }
  return absl::OkStatus();
}

bool IsWanted(absl::string_view only, absl::string_view name) {
  if (only.empty()) return true;
  const std::vector<absl::string_view> names = absl::StrSplit(only, ',');
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace headlight::bench
