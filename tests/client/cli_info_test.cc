#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "client/cli/format.h"
#include "client/cpp/tensors.h"
#include "tests/client/fake_server.h"
#include "tests/client/run_cli.h"

namespace headlight::testing {
namespace {

TEST(CliInfo, Table) {
  const FakeServer server;
  const CliRun run = RunCli({"info", "--address", server.address()});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "version                9.8.7\n"
            "cpu target             avx2 (of avx2, baseline)\n"
            "threads                4\n"
            "layers                 demo\n"
            "oneDNN                 2.6.0\n"
            "max_receive_bytes      134217728 = 128.0 MiB\n");
}

TEST(CliInfo, Json) {
  const FakeServer server;
  const auto json = nlohmann::json::parse(RunCli({"info", "--json", "--address", server.address()}).out);
  EXPECT_EQ(json["version"], "9.8.7");
  EXPECT_EQ(json["limits"][0]["value"], "134217728");
}

TEST(CliHealth, ExitCodes) {
  FakeServer server;
  const CliRun serving = RunCli({"health", "--address", server.address()});
  EXPECT_EQ(serving.exit_code, 0);
  EXPECT_EQ(serving.out, "SERVING\n");
  const CliRun unknown = RunCli({"health", "--address", server.address(), "--service", "x", "--json"});
  EXPECT_EQ(unknown.exit_code, 5);
  EXPECT_EQ(nlohmann::json::parse(unknown.out)["status"], "SERVICE_UNKNOWN");
  server.SetServing(false);
  const CliRun not_serving = RunCli({"health", "--address", server.address()});
  EXPECT_EQ(not_serving.exit_code, 5);
  EXPECT_EQ(not_serving.out, "NOT_SERVING\n");
  EXPECT_EQ(RunCli({"health", "--address", "127.0.0.1:1", "--timeout", "5"}).exit_code, 4);
}

TEST(CliCompare, TableOfARandomInput) {
  FakeServer server;
  const CliRun run = RunCli({"compare", "--address", server.address(), "--tokens-count", "16", "--heads", "4",
                             "--kv-heads", "2", "--head-size", "8", "--causal", "top-left", "--seed", "3"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "               time         speed  scratch  per worker  workspace  full grid\n"
            "naive      300.0 ms  20.0 GFLOP/s  4.0 MiB           -    6.0 MiB  128.0 MiB\n"
            "flash      300.0 ms  20.0 GFLOP/s  4.0 MiB     1.0 MiB    6.0 MiB  128.0 MiB\n"
            "reference    2.00 s   1.0 GFLOP/s        -           -    1.0 MiB          -\n"
            "The reference computed 32 of 64 rows in double precision.\n"
            "\n"
            "difference         largest   mean             at  rows compared\n"
            "naive, flash      1.25e-06  3e-08  [0, 3, 17, 5]             32\n"
            "naive, reference  1.25e-06  3e-08  [0, 3, 17, 5]             32\n"
            "flash, reference  1.25e-06  3e-08  [0, 3, 17, 5]             32\n");
  const v1::QueryKeyValue input = server.last_compare().query_key_value();
  EXPECT_EQ(cli::ShapeText(input.query().shape()), "[1, 4, 16, 8]");
  EXPECT_EQ(input.key().shape(1), 2);
  EXPECT_EQ(server.last_compare().options().query_heads(), 4U);
  EXPECT_TRUE(server.last_compare().options().mask().has_causal());
  const std::vector<float> values = client::FloatsOf(input.query()).value();
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / 512, 0, 0.2);
  EXPECT_NEAR(squares / 512, 1, 0.2);
}

TEST(CliCompare, SameSeedSameNumbers) {
  FakeServer server;
  const std::vector<std::string> arguments = {"compare",        "--address", server.address(),
                                              "--tokens-count", "4",         "--json"};
  const CliRun run = RunCli(arguments);
  EXPECT_EQ(nlohmann::json::parse(run.out)["reference"]["rows"], "32");
  const v1::CompareAlgorithmsRequest first = server.last_compare();
  RunCli(arguments);
  EXPECT_EQ(first.SerializeAsString(), server.last_compare().SerializeAsString());
  EXPECT_EQ(first.query_key_value().query().shape(1), 8);
  EXPECT_EQ(first.query_key_value().query().shape(3), 64);
  EXPECT_NE(first.query_key_value().query().f32_le(), first.query_key_value().key().f32_le());
}

TEST(CliCompare, TakesTheInputsOfAttend) {
  FakeServer server;
  const CliRun run = RunCli({"compare", "--address", server.address(), "--seeded-embeddings", "1,8,4",
                             "--seeded-weights", "2", "--heads", "2", "--tokens", "a,b"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(server.last_compare().self_attention().seeded_embeddings().tokens(), 8);
  EXPECT_EQ(server.last_compare().options().query_heads(), 2U);
  EXPECT_EQ(server.last_compare().tokens_size(), 2);
}

TEST(CliCompare, RefusesWhatHasNoUse) {
  EXPECT_EQ(RunCli({"compare", "--seeded-embeddings", "1,8,4", "--layer", "demo", "--seed", "1"}).exit_code, 2);
  EXPECT_EQ(RunCli({"compare", "--algorithm", "naive"}).exit_code, 2);
  EXPECT_EQ(RunCli({"compare", "--layer", "demo"}).exit_code, 2);
  EXPECT_EQ(RunCli({"compare", "--tokens-count", "-1"}).exit_code, 2);
  EXPECT_EQ(RunCli({"compare", "--seed", "-1"}).exit_code, 2);
  EXPECT_EQ(RunCli({"compare", "--tokens-count", "9000000000000000000"}).exit_code, 2);
}

}  // namespace
}  // namespace headlight::testing
