#include <fstream>
#include <iostream>
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "tests/bench/bench.h"
#include "tests/support/oracle.h"

namespace headlight::bench {
namespace {

using nlohmann::json;

oracle::Problem ProblemFrom(const json& command) {
  oracle::Problem p;
  p.b = command.at("b");
  p.hq = command.at("hq");
  p.hkv = command.at("hkv");
  p.tq = command.at("tq");
  p.tk = command.at("tk");
  p.d = command.at("d");
  p.dv = command.at("dv");
  if (command.at("causal").get<bool>()) p.causal = CausalAlignment::kBottomRight;
  if (command.at("kind") == "bf16") {
    p.kind = TensorKind::kBF16;
    p.precision = ComputePrecision::kBFloat16;
  }
  return p;
}

// Overwrites the bytes of Q, K and V in place: the views of `bound` stay good.
absl::Status ReadInput(const std::string& path, oracle::Bound& bound) {
  std::ifstream file(path, std::ios::binary);
  for (OwnedTensor* tensor : {&bound.query, &bound.key, &bound.value}) {
    file.read(tensor->bytes.data(), static_cast<std::streamsize>(tensor->bytes.size()));
  }
  if (!file || file.peek() != std::ifstream::traits_type::eof()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " does not hold Q, K and V of these sizes"));
  }
  return absl::OkStatus();
}

class Session {
 public:
  absl::StatusOr<json> Answer(const json& command) {
    if (command.contains("about")) return json{{"machine", DescribeMachine()}};
    const std::string input = command.at("input");
    if (input != input_) {
      input_.clear();
      bound_ = oracle::Bind(ProblemFrom(command));
      if (absl::Status status = ReadInput(input, *bound_); !status.ok()) return status;
      input_ = input;
    }
    std::unique_ptr<ComputePool>& pool = pools_[command.at("threads").get<int>()];
    if (pool == nullptr) pool = std::make_unique<ComputePool>(command.at("threads").get<int>());
    std::vector<double> seconds;
    std::unique_ptr<oracle::Ran> last;
    for (int run = 0; run < command.at("runs").get<int>(); ++run) {
      auto ran = oracle::RunEngineOn(*pool, *bound_, Algorithm::kFlash);
      if (!ran.ok()) return ran.status();
      last = *std::move(ran);
      seconds.push_back(last->record.total_seconds);
    }
    if (last == nullptr) return absl::InvalidArgumentError("runs: one at least");
    if (command.contains("output")) {
      const std::string& bytes = last->result.output.bytes;
      std::ofstream file(command.at("output").get<std::string>(), std::ios::binary);
      if (!file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush()) {
        return absl::UnavailableError("cannot write the output");
      }
    }
    const Seconds summary = Summarize(seconds);
    return json{{"best", summary.best},
                {"median", summary.median},
                {"seconds", seconds},
                {"flops", last->plan.flops},
                {"workspace_bytes", last->record.workspace_bytes}};
  }

 private:
  std::string input_;  // what bound_ holds; empty: nothing
  std::unique_ptr<oracle::Bound> bound_;
  std::map<int, std::unique_ptr<ComputePool>> pools_;  // by threads
};

}  // namespace

absl::Status Serve() {
  Session session;
  for (std::string line; std::getline(std::cin, line);) {
    json answer;
    try {
      absl::StatusOr<json> answered = session.Answer(json::parse(line));
      answer = answered.ok() ? *std::move(answered) : json{{"error", answered.status().ToString()}};
    } catch (const json::exception& e) {
      answer = {{"error", e.what()}};
    }
    std::cout << answer.dump() << '\n' << std::flush;
  }
  return absl::OkStatus();
}

}  // namespace headlight::bench
