#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "google/rpc/error_details.pb.h"
#include "tests/client/fake_server.h"
#include "tests/client/run_cli.h"

namespace headlight::testing {
namespace {

grpc::Status InvalidRequest() {
  google::rpc::ErrorInfo info;
  info.set_reason("INVALID_REQUEST");
  info.set_domain("headlight.v1");
  (*info.mutable_metadata())["violations"] = "9";
  (*info.mutable_metadata())["limit"] = "4";
  google::rpc::BadRequest bad;
  for (const char* field : {"options.query_heads", "self_attention.embeddings.shape"}) {
    auto* violation = bad.add_field_violations();
    violation->set_field(field);
    violation->set_description("got 3, expected 4");
  }
  return DetailedStatus(grpc::StatusCode::INVALID_ARGUMENT, "2 violations: ...", {&info, &bad});
}

grpc::Status Reason(grpc::StatusCode code, const std::string& reason) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  return DetailedStatus(code, "why", {&info});
}

TEST(CliErrors, ViolationsOnePerLineAndAHint) {
  FakeServer server;
  server.FailNext(InvalidRequest());
  const CliRun run = RunCli({"info", "--address", server.address()});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(run.err,
            "headlight: INVALID_ARGUMENT (INVALID_REQUEST): the server refused the request, violations: 9\n"
            "  options.query_heads: got 3, expected 4\n"
            "  self_attention.embeddings.shape: got 3, expected 4\n"
            "  limit = 4\n"
            "hint: correct these fields; --help of the subcommand says which flag sets which\n");
}

TEST(CliErrors, AsJsonOnStandardOutput) {
  FakeServer server;
  server.FailNext(InvalidRequest());
  const CliRun run = RunCli({"--json", "info", "--address", server.address()});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_EQ(run.err, "");
  const auto error = nlohmann::json::parse(run.out)["error"];
  EXPECT_EQ(error["code"], "INVALID_ARGUMENT");
  EXPECT_EQ(error["reason"], "INVALID_REQUEST");
  EXPECT_EQ(error["exit_code"], 3);
  EXPECT_EQ(error["metadata"]["violations"], "9");
  EXPECT_EQ(error["violations"][1]["field"], "self_attention.embeddings.shape");
  EXPECT_EQ(error["violations"][1]["description"], "got 3, expected 4");
  EXPECT_FALSE(error.contains("retry_delay_seconds"));
}

TEST(CliErrors, ExitCodeOfEachError) {
  FakeServer server;
  const auto run = [&](const grpc::Status& status) {
    server.FailNext(status);
    return RunCli({"info", "--address", server.address()});
  };
  EXPECT_EQ(run(Reason(grpc::StatusCode::NOT_FOUND, "LAYER_NOT_FOUND")).exit_code, 3);
  EXPECT_EQ(run(Reason(grpc::StatusCode::UNIMPLEMENTED, "NOT_IMPLEMENTED")).exit_code, 3);
  EXPECT_EQ(run({grpc::StatusCode::RESOURCE_EXHAUSTED, "too large"}).exit_code, 3);
  EXPECT_EQ(run(Reason(grpc::StatusCode::DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")).exit_code, 4);
  EXPECT_EQ(run(Reason(grpc::StatusCode::INTERNAL, "INTERNAL")).exit_code, 1);
  const CliRun layer = run(Reason(grpc::StatusCode::NOT_FOUND, "LAYER_NOT_FOUND"));
  EXPECT_EQ(layer.err,
            "headlight: NOT_FOUND (LAYER_NOT_FOUND): why\nhint: `headlight info` lists the layers of this server\n");
}

TEST(CliErrors, BusyServerSaysWhenToComeBack) {
  FakeServer server;
  for (int i = 0; i < 4; ++i) server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"}, "12");
  const CliRun run = RunCli({"info", "--json", "--address", server.address()});
  EXPECT_EQ(run.exit_code, 4);
  const auto error = nlohmann::json::parse(run.out)["error"];
  EXPECT_EQ(error["retry_delay_seconds"], 0.012);
  EXPECT_EQ(error["hint"], "the server is busy; try again in 12.0 ms");
}

TEST(CliErrors, AWordThatIsNoSubcommandIsNamed) {
  const CliRun result = RunCli({"bogus"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("bogus"), std::string::npos) << result.err;
  EXPECT_EQ(RunCli({}).exit_code, 2);
}

TEST(CliErrors, NobodyThere) {
  for (const char* command : {"demo", "info", "compare"}) {
    const CliRun run = RunCli({command, "--address", "127.0.0.1:1", "--timeout", "10"});
    EXPECT_EQ(run.exit_code, 4) << command;
    EXPECT_TRUE(absl::StrContains(run.err, "is a headlight-server running at 127.0.0.1:1?")) << run.err;
  }
}

TEST(CliErrors, BadUsage) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"bogus"},
      {"demo", "--bogus"},
      {"demo", "extra"},
      {"demo", "--head", "x"},
      {"info", "--timeout", "0"},
      {"info", "--timeout", "-1"},
      {"info", "--address"},
      {"info", "--address", ""},
      {"attend"},
      {"attend", "--request", "/no/such/file.json"},
      {"attend", "--query", "/no/such/q.npy", "--key", "k.npy", "--value", "v.npy"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--maps", "x"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--no-output", "--output", "o.npy"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--window", "4"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--window-alignment", "top-left"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--window", "4,", "--window-alignment", "x"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--segments", ""},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--key-segments", "1"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--softcap", "x"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--sinks", "x"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--head-gains", "x"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--query-positions", "x"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--key-positions", "x"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--rotary-scaling", "linear:2"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--precision", "f64"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--map-rows", "0:1"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--maps", "all", "--map-keys", "1"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--verify-rows", "-1"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--out-kind", "f64"},
      {"attend", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--max-response-bytes", "-1"},
      {"attend", "--request", "r.json", "--window", "1,1"},
      {"plan", "--layer", "demo"},
      {"plan", "--maps", "x"},
      {"plan", "--window", "x"},
      {"plan", "--seeded-embeddings", "1,2,4", "--layer", "demo", "--tokens-count", "5"},
  };
  for (std::vector<std::string> arguments : cases) {
    const CliRun run = RunCli(arguments);
    EXPECT_EQ(run.exit_code, 2) << ::testing::PrintToString(arguments) << run.err;
    EXPECT_TRUE(absl::StartsWith(run.err, "headlight: ")) << run.err;
    arguments.insert(arguments.begin(), "--json");
    const CliRun json = RunCli(arguments);
    EXPECT_EQ(json.exit_code, 2) << ::testing::PrintToString(arguments);
    EXPECT_EQ(json.err, "");
    EXPECT_EQ(nlohmann::json::parse(json.out)["error"]["exit_code"], 2);
  }
}

TEST(CliErrors, OutputThatCannotBeWritten) {
  const FakeServer server;
  const CliRun run = RunCli({"info", "--address", server.address()}, {.output = "/dev/full"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_EQ(run.err, "headlight: standard output cannot be written\n");
}

TEST(CliErrors, TextOfAServerCannotSteerTheTerminal) {
  FakeServer server;
  server.FailNext({grpc::StatusCode::INTERNAL, "\x1b[2Jboo"});
  EXPECT_TRUE(absl::StartsWith(RunCli({"info", "--address", server.address()}).err, "headlight: INTERNAL: ?[2Jboo\n"));
}

TEST(CliHelp, EverySubcommandHasExamples) {
  const CliRun top = RunCli({"--help"});
  EXPECT_EQ(top.exit_code, 0);
  EXPECT_TRUE(absl::StrContains(top.out, "Exit codes:\n"));
  for (const std::string command : {"demo", "attend", "plan", "compare", "info", "health"}) {
    const CliRun run = RunCli({command, "--help"});
    EXPECT_EQ(run.exit_code, 0);
    EXPECT_TRUE(absl::StrContains(run.out, "Examples:\n  headlight " + command)) << run.out;
    EXPECT_FALSE(absl::StrContains(run.out, "Excludes")) << run.out;
  }
  const CliRun version = RunCli({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_TRUE(absl::StartsWith(version.out, "headlight "));
}

}  // namespace
}  // namespace headlight::testing
