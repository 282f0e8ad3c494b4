#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <mutex>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/tensors.h"
#include "headlight/v1/analysis_service.grpc.pb.h"
#include "tests/client/run_cli.h"

namespace headlight::testing {
namespace {

// Answers every text with two heads of one layer, of which head 1 bets on "Potter".
class FakeAnalysis final : public v1::AnalysisService::Service {
 public:
  grpc::Status TraceStack(grpc::ServerContext* /*context*/, const v1::TraceStackRequest* request,
                          v1::TraceStackResponse* response) override {
    const std::lock_guard lock(mutex_);
    last_ = *request;
    *response->mutable_tokens() = request->tokens();
    for (const char* word : {"Potter", "Mr"}) {
      v1::Bet* bet = response->add_bets();
      bet->set_token(word);
      bet->set_logit(word[0] == 'P' ? 9.5 : -1.25);
      bet->set_probability(word[0] == 'P' ? 0.75 : 0.125);
    }
    *response->mutable_target() = response->bets(0);
    response->set_embedding_logit(-0.5);
    response->set_bias_logit(1);
    v1::LayerTrace* layer = response->add_layers();
    for (std::uint32_t h = 0; h < 2; ++h) {
      v1::HeadAttribution* head = response->add_attributions();
      head->set_head(h);
      head->set_logit(h == 0 ? 0.25 : 8.75);
      head->set_centered_logit(h == 0 ? 0.125 : 8);
      v1::HeadStatistics* statistics = layer->add_head_statistics();
      statistics->set_head(h);
      statistics->set_share_on_previous(h == 0 ? 0.875 : 0.125);
      if (!request->maps()) continue;
      v1::WeightMap* map = layer->add_maps();
      map->set_head(h);
      map->set_stage(v1::MAP_STAGE_WEIGHTS);
      const std::int64_t tokens = request->tokens_size();
      map->set_row_end(tokens);
      *map->mutable_weights() = *client::MakeTensor(
          std::vector<float>(static_cast<std::size_t>(tokens * tokens), 0.25F), {tokens, tokens}, v1::TENSOR_KIND_F32);
    }
    return grpc::Status::OK;
  }

  v1::TraceStackRequest last() const {
    const std::lock_guard lock(mutex_);
    return last_;
  }

 private:
  mutable std::mutex mutex_;
  v1::TraceStackRequest last_;
};

class CliTrace : public ::testing::Test {
 protected:
  CliTrace() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&analysis_);
    server_ = builder.BuildAndStart();
    server_->GetHealthCheckService()->SetServingStatus("headlight.v1.AttentionService", true);
  }

  CliRun Trace(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"trace", "--address", absl::StrCat("127.0.0.1:", port_)});
    return RunCli(arguments);
  }

  FakeAnalysis analysis_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(CliTrace, PlainText) {
  const CliRun run = Trace();
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "Mr and Mrs Potter thanked the driver ; then Mrs\n"
            "\n"
            "next     logit  probability\n"
            "Potter   9.500        0.750\n"
            "Mr      -1.250        0.125\n"
            "\n"
            "adds to Potter    logit  beside all words\n"
            "layer 0, head 1   8.750             8.000\n"
            "biases            1.000                 -\n"
            "layer 0, head 0   0.250             0.125\n"
            "embedding        -0.500                 -\n"
            "together          9.500                 -\n"
            "\n"
            "statistics       entropy  largest weight  distance  on previous  on same  on first\n"
            "layer 0, head 0    0.000           0.000     0.000        0.875    0.000     0.000\n"
            "layer 0, head 1    0.000           0.000     0.000        0.125    0.000     0.000\n");
}

TEST_F(CliTrace, AsksForWhatTheFlagsSay) {
  ASSERT_EQ(Trace().exit_code, 0);
  const v1::TraceStackRequest usual = analysis_.last();
  EXPECT_EQ(usual.stack(), "induction");
  EXPECT_EQ(usual.tokens_size(), 10);
  EXPECT_EQ(usual.bets(), 5U);
  EXPECT_FALSE(usual.maps());
  EXPECT_EQ(usual.off_size(), 0);
  ASSERT_EQ(Trace({"--off", "0:3", "info", "demo", "--off", "1:2", "--stack", "mine", "--target", "x", "--bets", "7"})
                .exit_code,
            0);
  const v1::TraceStackRequest request = analysis_.last();
  EXPECT_EQ(request.stack(), "mine");
  ASSERT_EQ(request.tokens_size(), 2);  // words, though subcommands are called so
  EXPECT_EQ(request.tokens(0), "info");
  ASSERT_EQ(request.off_size(), 2);
  EXPECT_EQ(request.off(0).head(), 3U);
  EXPECT_EQ(request.off(1).layer(), 1U);
  EXPECT_EQ(request.target(), "x");
  EXPECT_EQ(request.bets(), 7U);
}

TEST_F(CliTrace, Maps) {
  const CliRun run = Trace({"--maps", "Mr", "and"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(absl::EndsWith(run.out,
                             "\nlayer 0, head 1\n"
                             "      Mr  and\n"
                             " Mr 0.25 0.25\n"
                             "and 0.25 0.25\n"))
      << run.out;
}

TEST_F(CliTrace, Json) {
  const CliRun run = Trace({"--json", "--maps", "Mr", "and"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["bets"][0]["token"], "Potter");
  EXPECT_EQ(json["attributions"][1]["logit"], 8.75);
  EXPECT_EQ(json["layers"][0]["maps"][1]["weights"]["f32_values"]["values"].size(), 4U);
}

TEST_F(CliTrace, AHeadThatIsNone) {
  for (const char* head : {"3", "0:", "a:1", "0:1:2", "-1:0"}) {
    const CliRun run = Trace({absl::StrCat("--off=", head)});
    EXPECT_EQ(run.exit_code, 2) << head;
    EXPECT_TRUE(absl::StrContains(run.err, "LAYER:HEAD")) << run.err;
  }
}

TEST(CliTraceOfAnOldServer, SaysThatItDoesNotKnowTheCall) {
  grpc::ServerBuilder builder;
  int port = 0;
  grpc::EnableDefaultHealthCheckService(true);
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  v1::AnalysisService::Service nothing;
  builder.RegisterService(&nothing);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  server->GetHealthCheckService()->SetServingStatus("headlight.v1.AttentionService", true);
  const CliRun run = RunCli({"trace", "--address", absl::StrCat("127.0.0.1:", port)});
  EXPECT_NE(run.exit_code, 0);
  EXPECT_TRUE(absl::StrContains(run.err, "UNIMPLEMENTED")) << run.err;
}

}  // namespace
}  // namespace headlight::testing
