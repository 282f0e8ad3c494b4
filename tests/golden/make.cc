// Golden vectors: reads files of tests/golden, computes what their requests must give with the double reference, and
// writes it into them, or with --check says where they hold anything else.
// Usage: golden-vectors [--check] FILE...
#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/errors.h"
#include "tests/fuzz/bound.h"

namespace headlight {
namespace {

using Json = nlohmann::ordered_json;

// Of numbers that the mathematics of another machine computes.
constexpr double kSame = 1e-6;

// In nine digits, as float32 needs; what is not finite as protobuf's JSON has it.
Json NumberOf(double x) {
  if (std::isinf(x)) return x < 0 ? "-Infinity" : "Infinity";
  return Json::parse(absl::StrFormat("%.9g", x));
}

template <typename Numbers>
Json TensorOf(const Shape& shape, const Numbers& numbers) {
  Json values = Json::array();
  for (const double x : numbers) values.push_back(NumberOf(x));
  return {{"shape", shape}, {"f32Values", {{"values", values}}}};
}

Json MapsOf(const OutputSpec& outputs, const Dimensions& d, const oracle::Exact& exact) {
  Json maps = Json::array();
  for (std::size_t i = 0; i < outputs.maps.size(); ++i) {
    const MapSpec& map = outputs.maps[i];
    const bool whole = map.top_k == 0 && !map.IsSweep() && map.stage == MapStage::kWeights && map.rows.size() == 1;
    if (!whole) throw std::runtime_error("golden files have whole maps of weights alone");
    for (const std::int64_t b : map.batches) {
      for (const std::int64_t h : map.heads) {
        const auto* first = exact.weights.data() + (b * d.query_heads + h) * d.query_tokens * d.key_tokens;
        const std::vector<double> weights(first, first + d.query_tokens * d.key_tokens);
        maps.push_back({{"requestIndex", i}, {"batch", b}, {"head", h}});
        maps.back()["weights"] = TensorOf({d.query_tokens, d.key_tokens}, weights);
      }
    }
  }
  return maps;
}

Json AnswerOf(const DecodedCall& call, const ProblemSpec& spec) {
  const oracle::Exact exact = oracle::Solve(*fuzz::BoundOf(call, spec));
  const Dimensions& d = spec.dims;
  Json answer;
  if (spec.outputs.output) answer["output"] = TensorOf(spec.OutputShape(), exact.output);
  if (!spec.outputs.maps.empty()) answer["maps"] = MapsOf(spec.outputs, d, exact);
  if (spec.outputs.log_sum_exp) {
    answer["logSumExp"] = TensorOf({d.batch, d.query_heads, d.query_tokens}, exact.log_sum_exp);
  }
  if (spec.outputs.head_outputs) {
    answer["headOutputs"] = TensorOf({d.batch, d.query_heads, d.query_tokens, d.value_head_size}, exact.heads);
  }
  return answer;
}

Json ErrorOf(const absl::Status& status) {
  Json fields = Json::array();
  for (const Violation& violation : DetailsOf(status).violations) fields.push_back(violation.field);
  return {{"code", absl::StatusCodeToString(status.code())}, {"fields", fields}};
}

// The same file with what its request must give.
Json Complete(const Json& file) {
  v1::AttendRequest request;
  const auto parsed = google::protobuf::util::JsonStringToMessage(file.at("request").dump(), &request);
  if (!parsed.ok()) throw std::runtime_error(parsed.ToString());
  static const auto& layers = *new LayerStore();
  const DecodedCall call = Decode(request, layers);
  const absl::StatusOr<ProblemSpec> spec = CheckProblem(call.request, {});
  Json made = {{"name", file.at("name")}, {"shows", file.at("shows")}, {"request", file.at("request")}};
  if (spec.ok()) {
    made["expected"] = AnswerOf(call, *spec);
    made["tolerance"] = file.at("tolerance");
  } else {
    made["error"] = ErrorOf(spec.status());
  }
  return made;
}

// Where two values differ, as a path; empty where they are the same.
std::string Differs(const Json& a, const Json& b, const std::string& path) {
  if (a.is_number() && b.is_number()) {
    const double x = a, y = b;
    return std::abs(x - y) <= kSame * (1 + std::abs(x)) ? "" : path;
  }
  if (!a.is_structured() || a.type() != b.type()) return a == b ? "" : path;
  if (a.size() != b.size()) return path;
  for (const auto& item : a.items()) {
    const std::string inner = absl::StrCat(path, "/", item.key());
    if (a.is_object() && !b.contains(item.key())) return inner;
    const Json& other = a.is_object() ? b.at(item.key()) : b.at(std::stoul(item.key()));
    if (std::string found = Differs(item.value(), other, inner); !found.empty()) return found;
  }
  return "";
}

// A field a line; a list of numbers or texts in one.
std::string TextOf(const Json& value, const std::string& indent = "\n") {
  if (!value.is_structured() || value.empty()) return value.dump();
  const bool lines = value.is_object() || value.front().is_structured();
  const std::string inner = lines ? indent + "  " : " ";
  std::string text;
  for (const auto& item : value.items()) {
    absl::StrAppend(&text, text.empty() ? lines ? inner : "" : "," + inner);
    if (value.is_object()) absl::StrAppend(&text, "\"", item.key(), "\": ");
    absl::StrAppend(&text, TextOf(item.value(), inner));
  }
  absl::StrAppend(&text, lines ? indent : "");
  return value.is_object() ? "{" + text + "}" : "[" + text + "]";
}

// Whether the file is, or now is, as it should be.
bool Run(const char* path, bool check) {
  const Json file = Json::parse(std::ifstream(path));
  const Json made = Complete(file);
  if (!check) return static_cast<bool>(std::ofstream(path) << TextOf(made) << "\n" << std::flush);
  const std::string found = Differs(made, file, "");
  if (!found.empty()) std::cerr << path << ": " << found << " is not what the double reference gives\n";
  return found.empty();
}

int Main(int argc, char** argv) {
  const bool check = argc > 1 && std::strcmp(argv[1], "--check") == 0;
  int files = 0, wrong = 0;
  for (int i = check ? 2 : 1; i < argc; ++i, ++files) wrong += Run(argv[i], check) ? 0 : 1;
  std::printf("%d golden files, %d %s\n", files, wrong, check ? "differ" : "not written");
  return files > 0 && wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace headlight

int main(int argc, char** argv) {
  try {
    return headlight::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "golden-vectors: " << error.what() << "\n";
    return 1;
  }
}
