#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/tensors.h"
#include "headlight/v1/analysis_service.grpc.pb.h"
#include "tests/client/fake_server.h"
#include "tests/client/run_cli.h"

namespace headlight::testing {
namespace {

// Answers with two heads, and with what else was asked for.
class FakeAnalysis final : public v1::AnalysisService::Service {
 public:
  grpc::Status AnalyzeCircuits(grpc::ServerContext* /*context*/, const v1::AnalyzeCircuitsRequest* request,
                               v1::AnalyzeCircuitsResponse* response) override {
    const std::lock_guard lock(mutex_);
    last_ = *request;
    response->set_layer_name(request->layer());
    for (std::uint32_t h = 0; h < 2; ++h) {
      v1::HeadCircuits* head = response->add_heads();
      head->set_head(h);
      for (const double value : {3.0, 2.0, 1.5, 0.25, 0.125}) head->mutable_query_key()->add_singular_values(value);
      head->mutable_query_key()->set_frobenius_norm(3.9);
      head->mutable_output_value()->add_singular_values(1 + h);
      head->mutable_output_value()->set_frobenius_norm(1 + h);
      if (h == 0) head->add_eigenvalues_real(-1);
      head->set_copying_score(h == 0 ? -1 : 0);
    }
    *response->mutable_heads(0)->mutable_query_key()->mutable_left() = Tensor({0.5F, 0.25F}, {1, 2});
    if (!request->later_layer().empty()) {
      for (std::uint32_t h = 0; h < 2; ++h) {
        v1::Composition* composition = response->add_compositions();
        composition->set_head(h);
        composition->set_query(0.125 + h);
        composition->set_key(0.5);
        composition->set_value(0.75);
      }
      response->mutable_random_baseline()->set_query(0.25);
      response->mutable_random_baseline()->set_key(0.25);
      response->mutable_random_baseline()->set_value(0.875);
    }
    if (request->has_swap()) *response->mutable_swapped_map() = Tensor({1, 0, 0.25F, 0.75F}, {2, 2});
    return grpc::Status::OK;
  }

  v1::AnalyzeCircuitsRequest last() const {
    const std::lock_guard lock(mutex_);
    return last_;
  }

 private:
  static v1::Tensor Tensor(const std::vector<float>& values, const std::vector<std::int64_t>& shape) {
    return *client::MakeTensor(values, shape, v1::TENSOR_KIND_F32);
  }

  mutable std::mutex mutex_;
  v1::AnalyzeCircuitsRequest last_;
};

class FakeDemo final : public v1::AttentionService::Service {
 public:
  grpc::Status GetDemo(grpc::ServerContext* /*context*/, const v1::GetDemoRequest* /*request*/,
                       v1::GetDemoResponse* response) override {
    response->set_layer("demo");
    response->add_tokens("it");
    response->add_tokens("rained");
    *response->mutable_embeddings() = *client::MakeTensor(std::vector<float>(6, 0.5F), {2, 3}, v1::TENSOR_KIND_F32);
    return grpc::Status::OK;
  }
};

class CliCircuits : public ::testing::Test {
 protected:
  CliCircuits() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&analysis_);
    builder.RegisterService(&demo_);
    server_ = builder.BuildAndStart();
    server_->GetHealthCheckService()->SetServingStatus("headlight.v1.AttentionService", true);
  }

  CliRun Circuits(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"circuits", "--address", absl::StrCat("127.0.0.1:", port_)});
    return RunCli(arguments);
  }

  FakeAnalysis analysis_;
  FakeDemo demo_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(CliCircuits, ATableOfHeads) {
  const CliRun run = Circuits();
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "layer demo\n"
            "head  QK norm  QK singular values  OV norm  OV singular values  copying\n"
            "0         3.9    3 2 1.5 0.25 ...        1                   1   -1.000\n"
            "1         3.9    3 2 1.5 0.25 ...        2                   2        -\n"
            "copying: of embeddings, 1 writes back what it reads, -1 its opposite; not of words\n");
  EXPECT_EQ(analysis_.last().layer(), "demo");
  EXPECT_EQ(analysis_.last().heads_size(), 0);
  EXPECT_FALSE(analysis_.last().has_swap());
}

TEST_F(CliCircuits, TheFlagsAreTheRequest) {
  Circuits({"--layer", "two/0", "--query-heads", "4", "--kv-heads", "2", "--heads", "1,3", "--directions", "5",
            "--later", "two/1", "--later-query-heads", "8", "--later-kv-heads", "1"});
  const v1::AnalyzeCircuitsRequest request = analysis_.last();
  EXPECT_EQ(request.layer(), "two/0");
  EXPECT_EQ(request.query_heads(), 4U);
  EXPECT_EQ(request.key_value_heads(), 2U);
  ASSERT_EQ(request.heads_size(), 2);
  EXPECT_EQ(request.heads(1), 3U);
  EXPECT_EQ(request.directions(), 5U);
  EXPECT_EQ(request.later_layer(), "two/1");
  EXPECT_EQ(request.later_query_heads(), 8U);
  EXPECT_EQ(request.later_key_value_heads(), 1U);
}

TEST_F(CliCircuits, CompositionsTheStrongestFirst) {
  const CliRun run = Circuits({"--later", "next"});
  EXPECT_TRUE(absl::StrContains(run.out,
                                "\n"
                                "how heads feed those of layer next\n"
                                "head  later head  through   score  random\n"
                                "1              0  queries  1.1250  0.2500  *\n"
                                "0              0   values  0.7500  0.8750\n"
                                "1              0   values  0.7500  0.8750\n"
                                "0              0     keys  0.5000  0.2500  *\n"
                                "1              0     keys  0.5000  0.2500  *\n"
                                "0              0  queries  0.1250  0.2500\n"))
      << run.out;
}

TEST_F(CliCircuits, ASwapReadsTheDemosSentence) {
  const CliRun run = Circuits({"--swap", "0:1", "--causal"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(analysis_.last().swap().aim_head(), 0U);
  EXPECT_EQ(analysis_.last().swap().cargo_head(), 1U);
  EXPECT_EQ(analysis_.last().swap().embeddings().shape(1), 3);
  EXPECT_TRUE(analysis_.last().swap().options().mask().has_causal());
  EXPECT_TRUE(absl::StrContains(run.out, "head 0 looks, and carries what head 1 would\n")) << run.out;
  EXPECT_TRUE(absl::StrContains(run.out, "rained   0.25   0.75\n")) << run.out;
}

TEST_F(CliCircuits, Json) {
  const CliRun run = Circuits({"--json", "--swap", "1:0"});
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["heads"][0]["query_key"]["left"]["f32_values"]["values"][1], 0.25);
  EXPECT_EQ(json["heads"][1]["output_value"]["frobenius_norm"], 2);
  EXPECT_EQ(json["swapped_map"]["f32_values"]["values"][3], 0.75);
}

TEST_F(CliCircuits, WrongFlags) {
  for (const char* swap : {"0", "0:", ":1", "a:1", "0:-1", "0:5000000000"}) {
    const CliRun run = Circuits({"--swap", swap});
    EXPECT_EQ(run.exit_code, 2) << swap;
    EXPECT_TRUE(absl::StrContains(run.err, "two heads, AIM:CARGO")) << run.err;
  }
  EXPECT_EQ(Circuits({"--heads", "0,-1"}).exit_code, 2);
  EXPECT_EQ(Circuits({"--causal"}).exit_code, 2);
  const CliRun other = Circuits({"--layer", "mine", "--swap", "0:1"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_TRUE(absl::StrContains(other.err, "--embeddings FILE.npy")) << other.err;
  EXPECT_EQ(Circuits({"--swap", "0:1", "--embeddings", "no_such.npy"}).exit_code, 2);
}

}  // namespace
}  // namespace headlight::testing
