#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "client/cli/files.h"
#include "client/cli/npy.h"
#include "client/cpp/tensors.h"
#include "tests/client/fake_server.h"
#include "tests/client/run_cli.h"

namespace headlight::testing {
namespace {

class CliAttend : public ::testing::Test {
 protected:
  CliAttend() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    for (const char* name : {"q", "k", "v"}) {
      EXPECT_TRUE(cli::WriteNpy(Path(std::string(name) + ".npy"), std::vector<float>{1, 2, 3, 4, 5, 6},
                                std::vector<std::int64_t>{3, 2})
                      .ok());
    }
  }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  CliRun Attend(std::vector<std::string> arguments, const CliSetting& setting = {}) {
    arguments.insert(arguments.begin(), {"attend", "--address", server_.address()});
    return RunCli(arguments, setting);
  }

  // With Q, K and V.
  CliRun AttendQkv(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--query", Path("q.npy"), "--key", Path("k.npy"), "--value", Path("v.npy")});
    return Attend(std::move(arguments));
  }

  // A folder per test: they run side by side.
  const std::string folder_ = ::testing::TempDir() + "/cli_attend_" +
                              ::testing::UnitTest::GetInstance()->current_test_info()->name() + "." +
                              std::to_string(getpid());
  FakeServer server_;
};

TEST_F(CliAttend, SummaryAndFiles) {
  const CliRun run = AttendQkv({"--causal", "top-left", "--output", Path("out.npy"), "--log-sum-exp", Path("l.npy"),
                                "--head-outputs", Path("h.json")});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(absl::StartsWith(run.out, "algorithm  flash (asked for), avx2, 4 workers\n")) << run.out;
  EXPECT_TRUE(absl::StrContains(run.out, "at 20.0 GFLOP/s\n"));
  EXPECT_TRUE(absl::StrContains(run.out, "output     [3, 2]\n"));
  EXPECT_EQ(cli::ReadNpy(Path("out.npy"))->values, (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(cli::ReadNpy(Path("l.npy"))->shape, (std::vector<std::int64_t>{1, 2, 3}));
  const auto json = nlohmann::json::parse(*cli::ReadFile(Path("h.json")));
  EXPECT_EQ(json["shape"], (std::vector<std::string>{"1", "2", "3", "3"}));
  EXPECT_EQ(json["f32_values"]["values"].size(), 18U);
  const v1::AttendRequest request = server_.last_attend();
  EXPECT_EQ(request.options().mask().causal().alignment(), v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  EXPECT_TRUE(request.outputs().log_sum_exp());
  EXPECT_TRUE(request.outputs().head_outputs());
}

TEST_F(CliAttend, JsonIsTheResponse) {
  const CliRun run = AttendQkv({"--json", "--kind", "f16", "--maps", "0"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["output"]["f32_values"]["values"], (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(json["maps"][0]["weights"]["f32_values"]["values"].size(), 9U);
  EXPECT_EQ(json["maps"][0]["head"], 0);
  EXPECT_EQ(json["execution"]["algorithm"], "ALGORITHM_FLASH");
  EXPECT_EQ(json["execution"]["flops"], "5000000000");
  EXPECT_FALSE(server_.last_attend().query_key_value().query().f16_le().empty());
}

TEST_F(CliAttend, JsonLeavesOutWhatWasWritten) {
  const CliRun run = AttendQkv({"--json", "--maps", "0", "--output", Path("o.npy"), "--maps-out", Path("m.json")});
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_FALSE(json.contains("output"));
  EXPECT_TRUE(json["maps"].empty());
  EXPECT_EQ(nlohmann::json::parse(*cli::ReadFile(Path("m.json"))).size(), 1U);
}

TEST_F(CliAttend, MapsInOneArray) {
  EXPECT_EQ(AttendQkv({"--maps", "all", "--no-output", "--maps-out", Path("m.npy")}).exit_code, 0);
  EXPECT_EQ(cli::ReadNpy(Path("m.npy"))->shape, (std::vector<std::int64_t>{2, 3, 3}));
  EXPECT_TRUE(server_.last_attend().outputs().omit_output());
}

TEST_F(CliAttend, MapsInAFolder) {
  const CliRun run = AttendQkv({"--maps", "1", "--maps", "0:top=1", "--maps-out", Path("maps")});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(cli::ReadNpy(Path("maps/request0_batch0_head1.npy"))->shape, (std::vector<std::int64_t>{3, 3}));
  const auto json = nlohmann::json::parse(*cli::ReadFile(Path("maps/request1_batch0_head0.json")));
  EXPECT_EQ(json["top_keys"]["keys"], (std::vector<int>{0, 0, 1}));
}

TEST_F(CliAttend, MapsOfSeveralShapesDoNotFitOneArray) {
  v1::AttendResponse response;
  for (const std::int64_t keys : {1, 2}) {
    *response.add_maps()->mutable_weights() =
        *client::MakeTensor(std::vector<float>(static_cast<std::size_t>(keys)), {1, keys}, v1::TENSOR_KIND_F32);
  }
  server_.AnswerNext(response);
  const CliRun run = AttendQkv({"--maps", "all", "--maps-out", Path("m.npy")});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(run.err, "name a folder instead"));
}

TEST_F(CliAttend, ShowWithWordsAndWithNumbers) {
  const CliRun words = Attend({"--embeddings", Path("q.npy"), "--layer", "demo", "--show", "--tokens", "the,cat,it"});
  EXPECT_EQ(words.exit_code, 0) << words.err;
  EXPECT_TRUE(absl::StartsWith(words.out,
                               "batch 0, head 0\n"
                               "     the  cat   it\n"
                               "the 0.80 0.10 0.10\n"))
      << words.out;
  EXPECT_TRUE(absl::StrContains(words.out, "it attends most to cat (0.80)\n"));
  // Tokens name the queries; keys of their own stay numbers.
  const CliRun numbers = AttendQkv({"--show", "--maps", "0:top=1", "--tokens", "the,cat,it"});
  EXPECT_TRUE(absl::StartsWith(numbers.out, "batch 0, head 0\nthe: 0 (0.80)\ncat: 0 (0.80)\nit: 1 (0.80)\n"))
      << numbers.out;
}

TEST_F(CliAttend, EveryOptionReachesTheServer) {
  const CliRun run = AttendQkv({"--window",
                                "*,2",
                                "--window-alignment",
                                "explicit:-1",
                                "--segments",
                                "0,0,1",
                                "--key-segments",
                                "1,0,0",
                                "--softcap",
                                "30",
                                "--sinks",
                                "-0.5",
                                "--head-gains",
                                "0",
                                "--query-positions",
                                "-1,0,1",
                                "--key-positions",
                                "3,4,5",
                                "--position",
                                "rotary",
                                "--layout",
                                "halves",
                                "--rotary-scaling",
                                "yarn:4,4096",
                                "--precision",
                                "bfloat16",
                                "--allow-non-finite",
                                "--out-kind",
                                "f16",
                                "--max-response-bytes",
                                "1000000"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const v1::AttendRequest request = server_.last_attend();
  const v1::AttentionOptions& options = request.options();
  EXPECT_EQ(options.mask().window().right(), 2);
  EXPECT_EQ(options.mask().window().offset(), -1);
  EXPECT_EQ(options.mask().segments().query_ids(2), 1);
  EXPECT_EQ(options.mask().segments().key_ids(0), 1);
  EXPECT_EQ(options.softcap(), 30);
  EXPECT_EQ(options.sinks(0), -0.5F);
  EXPECT_EQ(options.head_gains_size(), 1);
  EXPECT_EQ(options.position().query_positions(0), -1);
  EXPECT_EQ(options.position().key_positions(2), 5);
  EXPECT_EQ(options.position().rotary().yarn().original_context(), 4096);
  EXPECT_EQ(options.precision(), v1::COMPUTE_PRECISION_BFLOAT16);
  EXPECT_TRUE(options.allow_non_finite());
  EXPECT_EQ(request.outputs().tensor_kind(), v1::TENSOR_KIND_F16);
  EXPECT_EQ(request.outputs().max_response_bytes(), 1'000'000U);
}

TEST_F(CliAttend, StatisticsAndVerification) {
  const CliRun run = AttendQkv({"--statistics", "--verify-rows", "3"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(absl::StrContains(run.out, "verified   3 rows in double precision: largest error 2.5e-07\n")) << run.out;
  EXPECT_TRUE(absl::StrContains(
      run.out,
      "\n\nstatistics       entropy  largest weight  distance  on previous  on same  on first  largest score\n"
      "batch 0, head 0    1.500           0.800    12.250        0.750    0.125     0.062            3.5\n"
      "batch 0, head 1    1.500           0.800    12.250        0.750    0.125     0.062    -1.2346e+05\n"
      "Means over rows: "))
      << run.out;
  const auto json = nlohmann::json::parse(AttendQkv({"--statistics", "--verify-rows", "3", "--json"}).out);
  EXPECT_EQ(json["head_statistics"][1]["head"], 1);
  EXPECT_EQ(json["head_statistics"][0]["mean_entropy"], 1.5);
  EXPECT_EQ(json["execution"]["verification"]["rows"], 3);
}

TEST_F(CliAttend, PooledMapsAndColumnSums) {
  const CliRun shown = AttendQkv({"--show", "--maps", "0:pooled=2x1,sum", "--maps", "1:columns", "--map-rows", "0:3"});
  EXPECT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_TRUE(absl::StartsWith(shown.out,
                               "batch 0, head 0, pooled: the sum of each cell, named by its first row and key\n"
                               "     0\n"
                               "0 0.00\n"
                               "1 1.00\n"
                               "\n"
                               "batch 0, head 1, sums over rows 0..2\n"
                               "          0       1       2\n"
                               "sum    0.30    1.00    1.70\n"
                               "2 is attended most (1.70)\n"))
      << shown.out;
  EXPECT_EQ(AttendQkv({"--maps", "all:pooled=2x2,max", "--maps-out", Path("p.npy")}).exit_code, 0);
  EXPECT_EQ(cli::ReadNpy(Path("p.npy"))->shape, (std::vector<std::int64_t>{2, 2, 2}));
  EXPECT_EQ(AttendQkv({"--maps", "all:columns", "--maps-out", Path("c.npy")}).exit_code, 0);
  EXPECT_EQ(cli::ReadNpy(Path("c.npy"))->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(AttendQkv({"--maps", "all:columns", "--maps-out", Path("maps")}).exit_code, 0);
  EXPECT_EQ(cli::ReadNpy(Path("maps/request0_batch0_head1.npy"))->shape, std::vector<std::int64_t>{3});
  EXPECT_EQ(AttendQkv({"--maps", "0:pooled=2x1,max", "--maps-out", Path("p.json")}).exit_code, 0);
  const auto json = nlohmann::json::parse(*cli::ReadFile(Path("p.json")));
  EXPECT_EQ(json[0]["weights"]["shape"], (std::vector<std::string>{"2", "1"}));
}

// Two ranges may begin at one row; neither file may hide the other.
TEST_F(CliAttend, RangesThatBeginTogetherGetFilesOfTheirOwn) {
  v1::AttendResponse response;
  for (const std::int64_t rows : {1, 2}) {
    v1::WeightMap* map = response.add_maps();
    map->set_row_end(rows);
    *map->mutable_weights() =
        *client::MakeTensor(std::vector<float>(static_cast<std::size_t>(rows)), {rows, 1}, v1::TENSOR_KIND_F32);
  }
  server_.AnswerNext(response);
  EXPECT_EQ(AttendQkv({"--maps", "0", "--map-rows", "0:1,0:2", "--maps-out", Path("maps")}).exit_code, 0);
  EXPECT_EQ(cli::ReadNpy(Path("maps/request0_batch0_head0.npy"))->shape, (std::vector<std::int64_t>{1, 1}));
  EXPECT_EQ(cli::ReadNpy(Path("maps/request0_batch0_head0_to2.npy"))->shape, (std::vector<std::int64_t>{2, 1}));
}

TEST_F(CliAttend, RequestFromStandardInput) {
  const std::string json = R"({"self_attention": {"seeded_embeddings": {"seed": 1, "tokens": 2, "width": 4},
                               "layer": "demo"}, "outputs": {"verify_rows": 3}})";
  const CliRun run = Attend({"--request", "-", "--maps", "0", "--json"}, {.input = json});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(server_.last_attend().outputs().verify_rows(), 3U);
  EXPECT_EQ(server_.last_attend().outputs().maps_size(), 1);
  EXPECT_EQ(nlohmann::json::parse(run.out)["maps"].size(), 1U);
}

TEST_F(CliAttend, AnAnswerWithBrokenTensors) {
  v1::AttendResponse response;
  response.mutable_output()->add_shape(1'000'000);
  response.mutable_output()->set_f32_le("abcd");
  server_.AnswerNext(response);
  EXPECT_EQ(AttendQkv({"--json"}).exit_code, 1);
  server_.AnswerNext(response);
  EXPECT_EQ(AttendQkv({"--output", Path("o.npy")}).exit_code, 1);
}

TEST_F(CliAttend, FilesThatCannotBeWritten) {
  const CliRun run = AttendQkv({"--output", Path("no/such/o.npy")});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_TRUE(absl::StrContains(run.err, "cannot be written"));
}

}  // namespace
}  // namespace headlight::testing
