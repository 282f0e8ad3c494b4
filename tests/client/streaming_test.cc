#include "client/cpp/streaming.h"

#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "client/cpp/client.h"
#include "client/cpp/tensors.h"
#include "tests/client/fake_server.h"

namespace headlight::client {
namespace {

using testing::FakeServer;

// Q of [1, 2, tokens, width], every number its place.
v1::AttendRequest RequestOf(std::int64_t tokens, std::int64_t width) {
  std::vector<float> values(static_cast<std::size_t>(2 * tokens * width));
  std::iota(values.begin(), values.end(), 0.0F);
  v1::AttendRequest request;
  *request.mutable_query_key_value()->mutable_query() = *MakeTensor(values, {1, 2, tokens, width}, v1::TENSOR_KIND_F32);
  return request;
}

TEST(Streaming, WhatOneMessageCarriesIsNotStreamed) {
  v1::AttendRequest request = RequestOf(kMostUnaryTokens, 1);
  EXPECT_FALSE(NeedsStream(request));
  request.mutable_query_key_value()->mutable_query()->set_shape(2, kMostUnaryTokens + 1);
  EXPECT_TRUE(NeedsStream(request));
  v1::AttendRequest seeded;
  seeded.mutable_self_attention()->mutable_seeded_embeddings()->set_tokens(kMostUnaryTokens + 1);
  EXPECT_TRUE(NeedsStream(seeded));
  EXPECT_FALSE(NeedsStream(v1::AttendRequest()));
}

TEST(Streaming, BytesOfAllTensorsCountTogether) {
  v1::AttendRequest request;
  request.mutable_query_key_value()->mutable_key()->set_f32_le(
      std::string(static_cast<std::size_t>(kMostUnaryBytes), 'k'));
  EXPECT_FALSE(NeedsStream(request));
  request.mutable_options()->mutable_mask()->mutable_tensor()->set_bool_u8("m");
  EXPECT_TRUE(NeedsStream(request));
  v1::PlanAttentionRequest plan;
  v1::TensorSpec* key = plan.mutable_query_key_value()->mutable_key();
  key->mutable_shape()->Add(kMostUnaryBytes / 4);
  key->set_kind(v1::TENSOR_KIND_F32);
  EXPECT_FALSE(NeedsStream(plan));
  plan.mutable_mask_tensor()->mutable_shape()->Add(1);
  EXPECT_TRUE(NeedsStream(plan));
}

TEST(Streaming, TheAnswerIsThatOfOneMessage) {
  FakeServer server;
  const auto client = *Client::Create({.address = server.address()});
  v1::AttendRequest request = RequestOf(1000, 300);  // of more than one chunk
  request.mutable_outputs()->set_log_sum_exp(true);
  request.mutable_outputs()->add_maps()->mutable_full();
  const auto unary = client->Attend(request);
  ASSERT_TRUE(unary.ok()) << unary.status();
  std::vector<StreamProgress> told;
  const auto streamed = client->AttendStream(request, [&told](const StreamProgress& now) { told.push_back(now); });
  ASSERT_TRUE(streamed.ok()) << streamed.status();
  EXPECT_EQ(streamed->SerializeAsString(), unary->SerializeAsString());
  const auto last = [&told](StreamProgress::Stage stage) {
    StreamProgress found;
    for (const StreamProgress& one : told) found = one.stage == stage ? one : found;
    return found;
  };
  EXPECT_EQ(last(StreamProgress::Stage::kSending).done, 1000U * 300 * 2 * 4);
  EXPECT_EQ(last(StreamProgress::Stage::kSending).total, 1000U * 300 * 2 * 4);
  EXPECT_EQ(last(StreamProgress::Stage::kReceiving).done, last(StreamProgress::Stage::kReceiving).total);
  EXPECT_EQ(last(StreamProgress::Stage::kComputing).total, 7U);
}

TEST(Streaming, LongCallsGoInChunksByThemselves) {
  FakeServer server;
  const auto client = *Client::Create({.address = server.address()});
  const v1::AttendRequest request = RequestOf(kMostUnaryTokens + 1, 1);
  server.LoseChunks();  // which a unary call would not notice
  EXPECT_EQ(client->Attend(request).status().code(), absl::StatusCode::kDataLoss);
  absl::Notification ended;
  absl::StatusOr<v1::AttendResponse> answer;
  client->AttendAsync(request, [&](absl::StatusOr<v1::AttendResponse> got) {
    answer = std::move(got);
    ended.Notify();
  });
  ended.WaitForNotification();
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(client->PlanAttention({}).status(), absl::OkStatus());
}

TEST(Streaming, RefusalsAreTriedAgain) {
  FakeServer server;
  server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"}, "20");
  server.FailNext({grpc::StatusCode::UNAVAILABLE, "draining"});
  const auto client = *Client::Create({.address = server.address()});
  const auto answer = client->AttendStream(RequestOf(4, 3));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(server.calls(), 3);
  server.FailNext({grpc::StatusCode::INVALID_ARGUMENT, "no"});
  EXPECT_EQ(client->AttendStream(RequestOf(4, 3)).status().message(), "no");
}

// Answers AttendStream with what it is told, whether or not that makes sense.
class ScriptedServer final : public v1::AttentionService::Service {
 public:
  ScriptedServer() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    client_ = *Client::Create({.address = absl::StrCat("127.0.0.1:", port), .spread_over_replicas = false});
  }
  ~ScriptedServer() override { server_->Shutdown(); }

  // What a client makes of such an answer to a call that asks for full maps.
  absl::StatusOr<v1::AttendResponse> Answer(std::vector<v1::AttendStreamResponse> script) {
    script_ = std::move(script);
    v1::AttendRequest request;
    request.mutable_outputs()->add_maps()->mutable_full();
    return client_->AttendStream(request);
  }

  grpc::Status AttendStream(
      grpc::ServerContext* /*context*/,
      grpc::ServerReaderWriter<v1::AttendStreamResponse, v1::AttendStreamRequest>* stream) override {
    v1::AttendStreamRequest message;
    while (stream->Read(&message)) continue;
    for (const v1::AttendStreamResponse& answer : script_) stream->Write(answer);
    return grpc::Status::OK;
  }

 private:
  std::vector<v1::AttendStreamResponse> script_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Client> client_;
};

// Of an output of [2, 2] float32, 16 bytes, and of so many maps.
v1::AttendStreamResponse Acceptance(std::uint64_t maps = 0) {
  v1::AttendStreamResponse message;
  v1::StreamedTensorSpec* result = message.mutable_acceptance()->add_results();
  result->set_tensor(v1::STREAMED_TENSOR_OUTPUT);
  result->mutable_spec()->set_kind(v1::TENSOR_KIND_F32);
  result->mutable_spec()->add_shape(2);
  result->mutable_spec()->add_shape(2);
  message.mutable_acceptance()->set_maps(maps);
  return message;
}

v1::AttendStreamResponse Chunk(std::uint64_t offset, std::size_t size,
                               v1::StreamedTensor name = v1::STREAMED_TENSOR_OUTPUT) {
  v1::AttendStreamResponse message;
  message.mutable_chunk()->set_tensor(name);
  message.mutable_chunk()->set_offset(offset);
  message.mutable_chunk()->set_data(std::string(size, 'x'));
  return message;
}

// Row `first` of a map of rows 0..2.
v1::AttendStreamResponse Row(std::uint64_t map, std::uint64_t first) {
  v1::AttendStreamResponse message;
  message.mutable_map()->set_map(map);
  message.mutable_map()->set_first(first);
  message.mutable_map()->mutable_part()->set_row_end(2);
  *message.mutable_map()->mutable_part()->mutable_weights() = *MakeTensor({1.0F, 2.0F}, {1, 2}, v1::TENSOR_KIND_F32);
  return message;
}

v1::AttendStreamResponse End() {
  v1::AttendStreamResponse message;
  message.mutable_end();
  return message;
}

TEST(Streaming, ChunksComeInAnyOrder) {
  ScriptedServer server;
  const auto answer = server.Answer({Acceptance(), Chunk(12, 4), Chunk(0, 8), Chunk(8, 4), End()});
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->output().f32_le(), std::string(16, 'x'));
}

TEST(Streaming, ResultsThatAreNotCoveredOnceAreLost) {
  ScriptedServer server;
  const std::vector<std::vector<v1::AttendStreamResponse>> scripts = {
      {Acceptance(), Chunk(0, 8), Chunk(0, 8), End()},    // twice, and another is missing
      {Acceptance(), Chunk(0, 8), Chunk(4, 8), End()},    // they overlap
      {Acceptance(), Chunk(0, 16), Chunk(0, 16), End()},  // all of it twice
      {Acceptance(), Chunk(0, 8), End()},
      {Acceptance(), Chunk(0, 8), Chunk(8, 9), End()},  // beyond the end
      {Acceptance(), Chunk(~std::uint64_t{0}, 8), End()},
      {Acceptance(), Chunk(0, 16), Chunk(16, 0), End()},
      {Acceptance(), Chunk(0, 16, v1::STREAMED_TENSOR_LOG_SUM_EXP), End()},
      {Chunk(0, 16), Acceptance(), End()},
      {Acceptance(), Acceptance(), Chunk(0, 16), End()},
      {Acceptance(), Chunk(0, 16), Acceptance(), Chunk(0, 16), End()},
      {Acceptance(), Chunk(0, 16), End(), End()},
      {Acceptance(), Chunk(0, 16)},
      {End()},
  };
  for (std::size_t i = 0; i < scripts.size(); ++i) {
    EXPECT_EQ(server.Answer(scripts[i]).status().code(), absl::StatusCode::kDataLoss) << i;
  }
}

TEST(Streaming, ResultsThatCannotBeAreLost) {
  ScriptedServer server;
  v1::AttendStreamResponse twice = Acceptance(), negative = twice, endless = twice, unknown = twice, flags = twice;
  *twice.mutable_acceptance()->add_results() = twice.acceptance().results(0);
  negative.mutable_acceptance()->mutable_results(0)->mutable_spec()->set_shape(0, -2);
  endless.mutable_acceptance()->mutable_results(0)->mutable_spec()->set_shape(0, std::int64_t{1} << 61);
  unknown.mutable_acceptance()->mutable_results(0)->set_tensor(v1::STREAMED_TENSOR_QUERY);
  flags.mutable_acceptance()->mutable_results(0)->mutable_spec()->set_kind(v1::TENSOR_KIND_BOOL);
  for (const v1::AttendStreamResponse& acceptance : {twice, negative, endless, unknown, flags}) {
    EXPECT_EQ(server.Answer({acceptance, End()}).status().code(), absl::StatusCode::kDataLoss)
        << acceptance.ShortDebugString();
  }
}

TEST(Streaming, MapsThatAreNotWholeAreLost) {
  ScriptedServer server;
  const auto answer = server.Answer({Acceptance(2), Chunk(0, 16), Row(0, 0), Row(0, 1), Row(1, 0), Row(1, 1), End()});
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->maps(1).weights().shape(0), 2);
  v1::AttendStreamResponse wide = Row(0, 1), formless = Row(0, 0), shapeless = Row(0, 0), stranger = Row(0, 0);
  *wide.mutable_map()->mutable_part()->mutable_weights() = *MakeTensor({1, 2, 3}, {1, 3}, v1::TENSOR_KIND_F32);
  formless.mutable_map()->mutable_part()->clear_form();
  shapeless.mutable_map()->mutable_part()->mutable_weights()->clear_shape();
  stranger.mutable_map()->mutable_part()->set_request_index(7);
  const std::vector<std::vector<v1::AttendStreamResponse>> blocks = {
      {Row(0, 0), Row(0, 0)},  // twice, and another is missing
      {Row(0, 1), Row(0, 0)},
      {Row(0, 0)},
      {Row(0, 0), Row(0, 1), Row(1, 0), Row(1, 1)},  // out of range
      {Row(~std::uint64_t{0}, 0)},
      {},
      {Row(0, 0), wide},
      {formless, Row(0, 1)},
      {shapeless, Row(0, 1)},
      {stranger, Row(0, 1)},
  };
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    std::vector<v1::AttendStreamResponse> script = {Acceptance(1), Chunk(0, 16)};
    script.insert(script.end(), blocks[i].begin(), blocks[i].end());
    script.push_back(End());
    EXPECT_EQ(server.Answer(std::move(script)).status().code(), absl::StatusCode::kDataLoss) << i;
  }
}

TEST(Streaming, NobodyThere) {
  const auto client = *Client::Create({.address = "127.0.0.1:1", .deadline = absl::Seconds(5)});
  EXPECT_EQ(client->AttendStream(RequestOf(4, 3)).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace headlight::client
