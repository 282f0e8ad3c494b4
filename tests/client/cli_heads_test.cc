#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/npy.h"
#include "headlight/v1/analysis_service.grpc.pb.h"
#include "tests/client/fake_server.h"
#include "tests/client/run_cli.h"

namespace headlight::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two heads, whatever is asked.
class FakeAnalysis final : public v1::AnalysisService::Service {
 public:
  grpc::Status AnalyzeHeads(grpc::ServerContext* /*context*/, const v1::AnalyzeHeadsRequest* request,
                            v1::AnalyzeHeadsResponse* response) override {
    const std::lock_guard lock(mutex_);
    last_ = *request;
    if (!failure_.ok()) return failure_;
    for (std::uint32_t h = 0; h < 2; ++h) {
      v1::HeadReport* head = response->add_heads();
      head->set_head(h);
      head->set_mean_entropy(0.5 + h);
      head->set_mean_distance(12.25);
      head->mutable_shares()->set_previous(0.93);
      head->mutable_value_weighted()->set_last(0.11);
      head->set_induction_score(0.07);
      if (h == 1) head->set_pattern_score(0.75);
      head->set_description(h == 0 ? "looks one step back, 0.93" : "nothing \x1b stands out");
    }
    v1::HeadDistance* pair = response->add_distances();
    pair->set_other(1);
    pair->set_jensen_shannon(0.0123);
    if (request->has_cluster_distance()) {
      for (const std::uint32_t head : {0, 1}) {
        if (head == 0) response->add_clusters();
        response->mutable_clusters(0)->add_heads(head);
      }
    }
    response->set_rows(5);
    response->set_layer("demo");
    return grpc::Status::OK;
  }

  void Fail(grpc::Status status) {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(status);
  }
  v1::AnalyzeHeadsRequest last() {
    const std::lock_guard lock(mutex_);
    return last_;
  }

 private:
  std::mutex mutex_;
  grpc::Status failure_;
  v1::AnalyzeHeadsRequest last_;
};

class CliHeads : public ::testing::Test {
 protected:
  CliHeads() { std::filesystem::create_directories(folder_); }
  ~CliHeads() override { std::filesystem::remove_all(folder_); }

  CliRun Heads(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"heads", "--address", server_.address()});
    return RunCli(arguments);
  }
  // A file with numbers from 0 on.
  std::string File(const std::string& name, std::int64_t rows, std::int64_t columns) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < rows * columns; ++i) values.push_back(static_cast<float>(i));
    const std::string path = folder_ + "/" + name;
    EXPECT_TRUE(cli::WriteNpy(path, values, {rows, columns}).ok());
    return path;
  }

  const std::string folder_ = ::testing::TempDir() + "/cli_heads_" +
                              ::testing::UnitTest::GetInstance()->current_test_info()->name() + "." +
                              std::to_string(getpid());
  FakeAnalysis analysis_;
  FakeServer server_{&analysis_};
};

TEST_F(CliHeads, TablesForPeople) {
  const CliRun run = Heads();
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "layer demo, 2 heads, 5 tokens of 1 text\n"
            "head 0 looks one step back, 0.93\n"
            "head 1 nothing ? stands out\n"
            "\n"
            "attention  entropy  confidence  distance  previous  same  first  last  duplicate  induction\n"
            "head 0        0.50        0.00     12.25      0.93  0.00   0.00  0.00       0.00       0.00\n"
            "head 1        1.50        0.00     12.25      0.93  0.00   0.00  0.00       0.00       0.00\n"
            "\n"
            "weighted by values  previous  same  first  last  duplicate  induction\n"
            "head 0                  0.00  0.00   0.00  0.11       0.00       0.00\n"
            "head 1                  0.00  0.00   0.00  0.11       0.00       0.00\n"
            "\n"
            "scores  previous token  duplicate token  induction  pattern\n"
            "head 0            0.00             0.00       0.07        -\n"
            "head 1            0.00             0.00       0.07     0.75\n"
            "\n"
            "nearest heads  distance\n"
            "0 and 1           0.012\n"
            "distance: Jensen-Shannon divergence of where they look, 0 alike to 0.693 nowhere together\n"
            "\n"
            "no look-alikes: no two heads are nearer than 0.05\n");
}

TEST_F(CliHeads, WithoutFilesTheDemosSentence) {
  Heads();
  const v1::AnalyzeHeadsRequest request = analysis_.last();
  EXPECT_EQ(request.layer(), "demo");
  ASSERT_EQ(request.sequences_size(), 1);
  EXPECT_EQ(request.sequences(0).embeddings().shape(0), 5);
  EXPECT_THAT(request.sequences(0).token_ids(), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_FALSE(request.has_cluster_distance());
}

TEST_F(CliHeads, TextsWithTheirTokens) {
  const CliRun run = Heads({"--layer", "mine/0", "--embeddings", File("a.npy", 3, 4), "--embeddings",
                            File("b.npy", 2, 4), "--token-ids", "7,-1,7", "--token-ids", File("ids.npy", 1, 2),
                            "--causal", "top-left", "--heads", "4", "--kv-heads", "2", "--cluster-distance", "0.1"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("5 tokens of 2 texts\n"));
  EXPECT_THAT(run.out, HasSubstr("look-alikes: heads 0, 1\n"));
  const v1::AnalyzeHeadsRequest request = analysis_.last();
  EXPECT_EQ(request.layer(), "mine/0");
  ASSERT_EQ(request.sequences_size(), 2);
  EXPECT_THAT(request.sequences(0).embeddings().shape(), ElementsAre(3, 4));
  EXPECT_THAT(request.sequences(0).token_ids(), ElementsAre(7, -1, 7));
  EXPECT_THAT(request.sequences(1).token_ids(), ElementsAre(0, 1));
  EXPECT_EQ(request.options().mask().causal().alignment(), v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  EXPECT_EQ(request.options().query_heads(), 4U);
  EXPECT_EQ(request.options().key_value_heads(), 2U);
  EXPECT_EQ(request.cluster_distance(), 0.1);
}

TEST_F(CliHeads, FlagsThatDoNotGoTogether) {
  const CliRun uneven = Heads({"--embeddings", File("a.npy", 3, 4), "--token-ids", "1", "--token-ids", "2"});
  EXPECT_EQ(uneven.exit_code, 2);
  EXPECT_EQ(uneven.err, "headlight: --token-ids was given 2 times, --embeddings 1\n");
  EXPECT_EQ(Heads({"--token-ids", "1,2"}).exit_code, 2);
  EXPECT_EQ(Heads({"--embeddings", folder_ + "/none.npy"}).exit_code, 2);
  const CliRun large = Heads({"--embeddings", File("b.npy", 3, 4), "--token-ids", File("many.npy", 4097, 4097)});
  EXPECT_EQ(large.exit_code, 2);
  EXPECT_THAT(large.err, HasSubstr("ids from -2^24 to 2^24 are read from a file"));
}

TEST_F(CliHeads, Json) {
  const CliRun run = Heads({"--json"});
  EXPECT_EQ(run.exit_code, 0);
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["heads"][0]["description"], "looks one step back, 0.93");
  EXPECT_EQ(json["heads"][1]["pattern_score"], 0.75);
  EXPECT_EQ(json["distances"][0]["jensen_shannon"], 0.0123);
}

TEST_F(CliHeads, ErrorsOfTheServer) {
  analysis_.Fail(grpc::Status(grpc::StatusCode::NOT_FOUND, "layer: no layer has this name"));
  const CliRun run = Heads();
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.out, IsEmpty());
  EXPECT_THAT(run.err, HasSubstr("no layer has this name"));
}

}  // namespace
}  // namespace headlight::testing
