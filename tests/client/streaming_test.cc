#include "client/cpp/streaming.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

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

TEST(Streaming, NobodyThere) {
  const auto client = *Client::Create({.address = "127.0.0.1:1", .deadline = absl::Seconds(5)});
  EXPECT_EQ(client->AttendStream(RequestOf(4, 3)).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace headlight::client
