#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "client/cli/files.h"
#include "client/cli/format.h"
#include "client/cli/npy.h"
#include "tests/client/fake_server.h"
#include "tests/client/run_cli.h"

namespace headlight::testing {
namespace {

constexpr char kPlan[] =
    "plan       flash (the grid is large)\n"
    "heads      8 query heads over 2 key/value heads, size 64, values of size 32\n"
    "work       5 GFLOP, of them 1 GFLOP for projections\n"
    "naive      130.0 MiB of workspace\n"
    "flash      6.0 MiB of workspace\n"
    "full grid  128.0 MiB of scores\n"
    "answer     at most 3.0 MiB\n"
    "time       the server does not say\n"
    "admission  the server does not say\n"
    "too large  query_key_value.query.shape: got 70000 tokens, expected at most 65536\n";

class CliExplain : public ::testing::Test {
 protected:
  CliRun Run(const std::string& command, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {command, "--address", server_.address()});
    return RunCli(arguments);
  }

  // Three seeded tokens through the demo layer.
  CliRun Explain(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--explain", "--seeded-embeddings", "1,3,4", "--layer", "demo"});
    return Run("attend", std::move(arguments));
  }

  FakeServer server_;
};

TEST_F(CliExplain, PlanConventionsAndSentences) {
  const CliRun run = Explain({"--tokens", "the,cat,it"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(absl::StartsWith(run.out, std::string(kPlan) + "\nalgorithm  flash (asked for), avx2, 4 workers\n"))
      << run.out;
  EXPECT_TRUE(absl::StrContains(run.out,
                                "\n\nconventions\n"
                                "algorithm    flash (asked for)\n"
                                "precision    float32\n"
                                "cpu target   avx2\n"
                                "heads        8 query heads over 2 key/value heads, size 64, values of size 32\n"
                                "scale        0.125 on Q K^T\n"
                                "softcap      none\n"
                                "positions    none: a bag of words\n"
                                "causal mask  top-left: row i stands at key i\n"
                                "window mask  none: far keys are seen\n"
                                "boolean mask true_attends: true means that the pair may attend\n"
                                "non-finite   refused: NaN and infinity in the input are an error\n"
                                "\n"
                                "batch 0, head 0\n"
                                "the attends most to the (0.80)\n"
                                "cat attends most to the (0.80)\n"
                                "it attends most to cat (0.80)\n"
                                "\n"
                                "batch 0, head 1\n"
                                "the attends most to it (0.80)\n"))
      << run.out;
  EXPECT_EQ(server_.calls(), 2);
  EXPECT_EQ(server_.last_attend().outputs().maps(0).top_keys().k(), 1U);
  EXPECT_EQ(server_.last_plan().outputs().maps(0).top_keys().k(), 1U);
  EXPECT_EQ(server_.last_plan().self_attention().seeded_embeddings().tokens(), 3);
}

TEST_F(CliExplain, IndicesWithoutTokens) {
  EXPECT_TRUE(absl::StrContains(Explain({}).out, "\n2 attends most to 1 (0.80)\n"));
}

TEST_F(CliExplain, DrawnMapsAreNotToldTwice) {
  const CliRun run = Explain({"--show", "--maps", "0"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(absl::StrContains(run.out, "\n\nbatch 0, head 0\n     0    1    2\n0 0.80 0.10 0.10\n")) << run.out;
  const auto first = run.out.find("2 attends most to 1 (0.80)");
  EXPECT_NE(first, std::string::npos);
  EXPECT_EQ(run.out.find("2 attends most to 1 (0.80)", first + 1), std::string::npos);
}

TEST_F(CliExplain, MapsWithoutSentences) {
  EXPECT_TRUE(absl::EndsWith(Explain({"--maps", "all:columns"}).out,
                             "no sentences: they need a full map or top keys of the weights (--maps)\n"));
}

TEST_F(CliExplain, SentencesOfMapsThatGoToAFile) {
  const std::string path = ::testing::TempDir() + "/cli_explain_maps." + std::to_string(getpid()) + ".json";
  const CliRun run = Explain({"--maps", "0", "--maps-out", path});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(absl::StrContains(run.out, "\n2 attends most to 1 (0.80)\n")) << run.out;
}

TEST_F(CliExplain, Json) {
  const CliRun run = Explain({"--json", "--statistics"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json.size(), 2U);
  EXPECT_EQ(json["plan"]["reason"], "the grid is large");
  EXPECT_EQ(json["plan"]["flops"], "5000000000");
  EXPECT_EQ(json["plan"]["violations"][0]["got"], "70000 tokens");
  EXPECT_EQ(json["response"]["execution"]["boolean_mask"], "true_attends");
  EXPECT_EQ(json["response"]["maps"][0]["top_keys"]["keys"], (std::vector<int>{0, 0, 1}));
  EXPECT_EQ(json["response"]["head_statistics"].size(), 2U);
}

TEST_F(CliExplain, ErrorsOfEitherCall) {
  server_.FailNext({grpc::StatusCode::INVALID_ARGUMENT, "no plan"});
  const CliRun plan = Explain({});
  EXPECT_EQ(plan.exit_code, 3);
  EXPECT_EQ(plan.out, "");
  EXPECT_EQ(server_.calls(), 1);
  server_.FailNext(grpc::Status::OK);
  server_.FailNext({grpc::StatusCode::INVALID_ARGUMENT, "no attention"});
  const CliRun attend = Explain({});
  EXPECT_EQ(attend.exit_code, 3);
  EXPECT_EQ(attend.out, std::string(kPlan) + "\n");
  EXPECT_TRUE(absl::StrContains(attend.err, "no attention"));
  server_.FailNext(grpc::Status::OK);
  server_.FailNext({grpc::StatusCode::INVALID_ARGUMENT, "no attention"});
  EXPECT_EQ(nlohmann::json::parse(Explain({"--json"}).out)["error"]["message"], "no attention");
}

TEST_F(CliExplain, AnAnswerThatMakesNoSense) {
  v1::AttendResponse response;
  v1::WeightMap* map = response.add_maps();
  map->set_stage(v1::MAP_STAGE_WEIGHTS);
  map->mutable_top_keys()->add_counts(5);
  server_.AnswerNext(response);
  EXPECT_EQ(Explain({}).exit_code, 1);
}

TEST_F(CliExplain, PlanOfSizesAlone) {
  const CliRun run =
      Run("plan", {"--tokens-count", "70000", "--heads", "4", "--kv-heads", "2", "--head-size", "32", "--kind", "bf16",
                   "--causal", "top-left", "--maps", "all:pooled=8x8,max", "--algorithm", "naive"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, kPlan);
  const v1::PlanAttentionRequest request = server_.last_plan();
  EXPECT_EQ(cli::ShapeText(request.query_key_value().query().shape()), "[1, 4, 70000, 32]");
  EXPECT_EQ(cli::ShapeText(request.query_key_value().value().shape()), "[1, 2, 70000, 32]");
  EXPECT_EQ(request.query_key_value().key().kind(), v1::TENSOR_KIND_BF16);
  EXPECT_EQ(request.options().query_heads(), 4U);
  EXPECT_EQ(request.options().algorithm(), v1::ALGORITHM_NAIVE);
  EXPECT_TRUE(request.options().mask().has_causal());
  EXPECT_EQ(request.outputs().maps(0).pooled().rows(), 8U);
  Run("plan", {});
  EXPECT_EQ(cli::ShapeText(server_.last_plan().query_key_value().key().shape()), "[1, 8, 2048, 64]");
}

TEST_F(CliExplain, PlanOfFiles) {
  const std::string folder = ::testing::TempDir() + "/cli_explain_plan." + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/x.npy";
  ASSERT_TRUE(cli::WriteNpy(path, std::vector<float>(6), std::vector<std::int64_t>{3, 2}).ok());
  const CliRun run = Run("plan", {"--embeddings", path, "--layer", "demo", "--mask", path, "--position", "learned",
                                  "--table", path, "--output", folder + "/never.npy", "--explain", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(nlohmann::json::parse(run.out)["algorithm"], "ALGORITHM_FLASH");
  EXPECT_EQ(server_.last_plan().self_attention().embeddings().shape(0), 3);
  EXPECT_EQ(server_.last_plan().mask_tensor().kind(), v1::TENSOR_KIND_F32);
  EXPECT_EQ(server_.last_plan().learned_table().shape(1), 2);
  EXPECT_FALSE(server_.last_plan().options().mask().has_tensor());
  EXPECT_EQ(server_.last_plan().outputs().maps_size(), 1);
  EXPECT_FALSE(std::filesystem::exists(folder + "/never.npy"));
  EXPECT_EQ(server_.calls(), 1);
}

TEST_F(CliExplain, PlanOfARequestFile) {
  const std::string path = ::testing::TempDir() + "/cli_explain_request." + std::to_string(getpid()) + ".json";
  ASSERT_TRUE(cli::WriteFile(path, R"({"self_attention": {"seeded_embeddings": {"tokens": 7}, "layer": "demo"},
                                       "outputs": {"verify_rows": 2}})")
                  .ok());
  EXPECT_EQ(Run("plan", {"--request", path, "--statistics"}).exit_code, 0);
  EXPECT_EQ(server_.last_plan().self_attention().layer(), "demo");
  EXPECT_EQ(server_.last_plan().outputs().verify_rows(), 2U);
  EXPECT_TRUE(server_.last_plan().outputs().head_statistics());
}

TEST_F(CliExplain, ErrorsOfThePlan) {
  server_.FailNext({grpc::StatusCode::INVALID_ARGUMENT, "no plan"});
  EXPECT_EQ(Run("plan", {}).exit_code, 3);
}

}  // namespace
}  // namespace headlight::testing
