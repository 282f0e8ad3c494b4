#include "client/cpp/client.h"

#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "client/cpp/errors.h"
#include "client/cpp/streaming.h"
#include "client/cpp/tensors.h"
#include "google/rpc/error_details.pb.h"
#include "tests/client/fake_server.h"

namespace headlight::client {
namespace {

using grpc::health::v1::HealthCheckResponse;
using testing::DetailedStatus;
using testing::FakeServer;

std::unique_ptr<Client> ClientOf(const FakeServer& server, absl::Duration deadline = absl::Seconds(30)) {
  return *Client::Create({.address = server.address(), .deadline = deadline});
}

v1::AttendRequest RequestOf(std::int64_t elements) {
  v1::AttendRequest request;
  *request.mutable_query_key_value()->mutable_query() =
      *MakeTensor(std::vector<float>(static_cast<std::size_t>(elements), 1.0F), {1, elements}, v1::TENSOR_KIND_F32);
  return request;
}

google::rpc::RetryInfo RetryAfter(std::int32_t milliseconds) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_nanos(milliseconds * 1'000'000);
  return retry;
}

TEST(Client, Calls) {
  const FakeServer server;
  const auto client = ClientOf(server);
  EXPECT_EQ(client->GetDemo()->layer(), "demo");
  EXPECT_EQ(client->GetServerInfo()->version(), "9.8.7");
  EXPECT_EQ(client->Attend(RequestOf(4))->output().shape(1), 4);
  EXPECT_EQ(client->CompareAlgorithms({})->reference().rows(), 32U);
}

TEST(Client, RefusesOptionsWithoutSense) {
  EXPECT_EQ(Client::Create({.address = ""}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Client::Create({.deadline = absl::ZeroDuration()}).status().code(), absl::StatusCode::kInvalidArgument);
  for (const int attempts : {0, 6}) {
    EXPECT_EQ(Client::Create({.max_attempts = attempts}).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(Client::Create({.max_message_bytes = 0}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Client::Create({.tls = TlsOptions{"", "chain", ""}}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Client::Create({.tls = TlsOptions{"", "", "key"}}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Client::Create({.token = "two\nlines"}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Client, BringsItsTokenWithEachAttempt) {
  FakeServer server;
  ASSERT_TRUE(ClientOf(server)->GetDemo().ok());
  EXPECT_TRUE(server.last_authorization().empty());
  const auto client = *Client::Create({.address = server.address(), .token = "some-token"});
  server.FailNext({grpc::StatusCode::UNAVAILABLE, "draining"});
  ASSERT_TRUE(client->Attend(RequestOf(4)).ok());
  EXPECT_EQ(server.calls(), 3);
  EXPECT_EQ(server.last_authorization(), std::vector<std::string>{"Bearer some-token"});
}

TEST(Client, DoesNotSpeakPlainlyWhereTlsIsAskedFor) {
  const FakeServer server;
  const auto client = *Client::Create(
      {.address = server.address(), .deadline = absl::Seconds(2), .tls = TlsOptions(), .token = "secret"});
  EXPECT_FALSE(client->GetDemo().ok());
  EXPECT_EQ(server.calls(), 0);
}

// 24 MiB there and back: far beyond gRPC's defaults for a message (4 MiB) and for what it keeps to retry (256 KiB).
TEST(Client, RetriesRealTensors) {
  FakeServer server;
  server.FailNext({grpc::StatusCode::UNAVAILABLE, "draining"});
  server.FailNext({grpc::StatusCode::UNAVAILABLE, "draining"});
  const auto response = ClientOf(server)->Attend(RequestOf(6 << 20));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->output().f32_le().size(), std::size_t{24} << 20);
  EXPECT_EQ(server.calls(), 3);
}

TEST(Client, GivesUpOnUnavailableAfterFourAttempts) {
  FakeServer server;
  for (int i = 0; i < 6; ++i) server.FailNext({grpc::StatusCode::UNAVAILABLE, "draining"});
  EXPECT_EQ(ClientOf(server)->GetDemo().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(server.calls(), 4);
}

TEST(Client, WaitsAsLongAsUnavailableSays) {
  FakeServer server;
  server.FailNext({grpc::StatusCode::UNAVAILABLE, "draining"}, "400");
  const absl::Time start = absl::Now();
  EXPECT_TRUE(ClientOf(server)->Attend(RequestOf(1 << 20)).ok());
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(400));
  EXPECT_EQ(server.calls(), 2);
}

TEST(Client, RetriesAsOftenAsItIsTold) {
  FakeServer server;
  int calls = 0;
  for (const int attempts : {1, 2, 5}) {
    const auto client = *Client::Create({.address = server.address(), .max_attempts = attempts});
    for (const grpc::StatusCode code : {grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::RESOURCE_EXHAUSTED}) {
      for (int i = 0; i < attempts; ++i) server.FailNext({code, "not now"}, "1");
      EXPECT_EQ(client->GetDemo().status().message(), "not now");
      EXPECT_EQ(server.calls(), calls += attempts);
    }
  }
}

TEST(Client, TakesAnswersAsLargeAsItIsTold) {
  FakeServer server;
  const auto client = *Client::Create({.address = server.address(), .max_message_bytes = 1 << 20});
  EXPECT_EQ(client->Attend(RequestOf(1 << 18)).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(client->Attend(RequestOf(1 << 17)).ok());
  EXPECT_EQ(server.calls(), 2);
}

TEST(Client, RetriesResourceExhaustedWithRetryInfo) {
  FakeServer server;
  const auto retry = RetryAfter(150);
  server.FailNext(DetailedStatus(grpc::StatusCode::RESOURCE_EXHAUSTED, "full", {&retry}));
  const absl::Time start = absl::Now();
  EXPECT_TRUE(ClientOf(server)->Attend(RequestOf(1 << 20)).ok());
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(150));
  EXPECT_EQ(server.calls(), 2);
}

TEST(Client, RetriesResourceExhaustedWithPushback) {
  FakeServer server;
  server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"}, "20");
  EXPECT_TRUE(ClientOf(server)->GetDemo().ok());
  EXPECT_EQ(server.calls(), 2);
}

TEST(Client, DoesNotRetryResourceExhaustedOtherwise) {
  FakeServer server;
  const auto retry = RetryAfter(1);
  server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "too large"});
  EXPECT_EQ(ClientOf(server)->GetDemo().status().message(), "too large");
  server.FailNext(DetailedStatus(grpc::StatusCode::RESOURCE_EXHAUSTED, "do not", {&retry}), "-1");
  EXPECT_EQ(ClientOf(server)->GetDemo().status().message(), "do not");
  server.FailNext(DetailedStatus(grpc::StatusCode::RESOURCE_EXHAUSTED, "unreadable", {&retry}), "soon");
  EXPECT_EQ(ClientOf(server)->GetDemo().status().message(), "unreadable");
  EXPECT_EQ(server.calls(), 3);
}

TEST(Client, GivesUpOnResourceExhaustedAfterFourAttempts) {
  FakeServer server;
  for (int i = 0; i < 6; ++i) server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"}, "1");
  const absl::Status status = ClientOf(server)->GetDemo().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(DetailsOf(status).retry_delay, absl::Milliseconds(1));
  EXPECT_EQ(server.calls(), 4);
}

TEST(Client, DoesNotWaitBeyondItsDeadline) {
  FakeServer server;
  server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"}, "60000");
  const absl::Time start = absl::Now();
  EXPECT_EQ(ClientOf(server, absl::Seconds(5))->GetDemo().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
}

TEST(Client, ErrorsCarryTheirDetails) {
  FakeServer server;
  google::rpc::ErrorInfo info;
  info.set_reason("INVALID_REQUEST");
  info.set_domain("headlight.v1");
  (*info.mutable_metadata())["violation_count"] = "9";
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("query_key_value.key.shape");
  violation->set_description("got [2, 3], expected [2, 4]");
  server.FailNext(DetailedStatus(grpc::StatusCode::INVALID_ARGUMENT, "9 violations", {&info, &bad}));
  const absl::Status status = ClientOf(server)->Attend({}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "9 violations");
  const ErrorInfo details = DetailsOf(status);
  EXPECT_EQ(details.reason, "INVALID_REQUEST");
  EXPECT_EQ(details.domain, "headlight.v1");
  EXPECT_EQ(details.metadata.at("violation_count"), "9");
  ASSERT_EQ(details.violations.size(), 1U);
  EXPECT_EQ(details.violations[0].field, "query_key_value.key.shape");
  EXPECT_EQ(details.violations[0].description, "got [2, 3], expected [2, 4]");
  EXPECT_FALSE(details.retry_delay.has_value());
  EXPECT_EQ(server.calls(), 1);
}

TEST(Client, DetailsThatMakeNoSenseAreLeftOut) {
  FakeServer server;
  server.FailNext({grpc::StatusCode::INTERNAL, "broken", "\xff\xff\xff"});
  const absl::Status status = ClientOf(server)->GetDemo().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(DetailsOf(status).reason.empty());
  EXPECT_TRUE(DetailsOf(absl::OkStatus()).reason.empty());
}

// What an AttendAsync told, once it has.
class Told {
 public:
  Client::Done<v1::AttendResponse> Callback() {
    return [this](absl::StatusOr<v1::AttendResponse> answer) {
      answer_ = std::move(answer);
      told_.Notify();
    };
  }
  const absl::StatusOr<v1::AttendResponse>& answer() {
    told_.WaitForNotification();
    return answer_;
  }

 private:
  absl::Notification told_;
  absl::StatusOr<v1::AttendResponse> answer_ = absl::UnknownError("nothing yet");
};

TEST(Client, AsynchronousCallsRetryAsTheOthersDo) {
  FakeServer server;
  Told told, refused;
  server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"}, "20");
  server.FailNext({grpc::StatusCode::UNAVAILABLE, "draining"});
  const auto client = *Client::Create({.address = server.address(), .token = "some-token"});
  client->AttendAsync(RequestOf(1 << 20), told.Callback());
  ASSERT_TRUE(told.answer().ok()) << told.answer().status();
  EXPECT_EQ(told.answer()->output().f32_le().size(), std::size_t{4} << 20);
  EXPECT_EQ(server.calls(), 3);
  EXPECT_EQ(server.last_authorization(), std::vector<std::string>{"Bearer some-token"});
  server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "too large"});
  client->AttendAsync(RequestOf(4), refused.Callback());
  EXPECT_EQ(refused.answer().status().message(), "too large");
}

TEST(Client, AsynchronousCallsOutliveIt) {
  FakeServer server;
  Told told[8];
  server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"}, "100");
  auto client = ClientOf(server);
  for (Told& one : told) client->AttendAsync(RequestOf(4), one.Callback());
  client.reset();
  for (Told& one : told) EXPECT_TRUE(one.answer().ok()) << one.answer().status();
}

// A server whose calls have threads of their own. One with gRPC's callbacks, such as those of its health service, would
// keep the threads that the client in the same process is called back on.
class PlainServer final : public v1::AttentionService::Service {
 public:
  PlainServer() {
    grpc::EnableDefaultHealthCheckService(false);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  ~PlainServer() override { server_->Shutdown(); }

  std::unique_ptr<Client> NewClient() const {
    return *Client::Create({.address = address_, .spread_over_replicas = false});
  }

  grpc::Status Attend(grpc::ServerContext* /*context*/, const v1::AttendRequest* /*request*/,
                      v1::AttendResponse* /*response*/) override {
    return grpc::Status::OK;
  }

 private:
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

// The last that knows of the connection is then a call that ends on a thread of gRPC's.
TEST(Client, IsDestroyedDuringItsOnlyCall) {
  const PlainServer server;
  v1::AttendRequest long_request;  // for a stream, which the server does not have
  long_request.mutable_self_attention()->mutable_seeded_embeddings()->set_tokens(kMostUnaryTokens + 1);
  for (int i = 0; i < 50; ++i) {
    Told unary, streamed;
    auto client = server.NewClient();
    client->AttendAsync(RequestOf(4), unary.Callback());
    client.reset();
    EXPECT_TRUE(unary.answer().ok()) << unary.answer().status();
    client = server.NewClient();
    client->AttendAsync(long_request, streamed.Callback());
    client.reset();
    EXPECT_EQ(streamed.answer().status().code(), absl::StatusCode::kUnimplemented);
  }
}

TEST(Client, IsDestroyedByItsOwnCall) {
  const PlainServer server;
  for (int i = 0; i < 50; ++i) {
    absl::Notification told;
    std::shared_ptr<Client> client = server.NewClient();
    const Client& asked = *client;
    asked.AttendAsync(RequestOf(4), [kept = std::move(client), &told](const auto& answer) mutable {
      EXPECT_TRUE(answer.ok()) << answer.status();
      kept.reset();
      told.Notify();
    });
    told.WaitForNotification();
  }
}

TEST(Client, AnAsynchronousCallIsCancelledWhileItWaits) {
  FakeServer server;
  Told told;
  server.FailNext({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"}, "20000");
  const auto client = ClientOf(server);
  const PendingCall call = client->AttendAsync(RequestOf(4), told.Callback());
  while (server.calls() == 0) absl::SleepFor(absl::Milliseconds(1));
  call.Cancel();
  call.Cancel();
  EXPECT_EQ(told.answer().status().code(), absl::StatusCode::kCancelled);
  call.Cancel();  // of a call that has ended
}

TEST(Client, NobodyThere) {
  const auto client = *Client::Create({.address = "127.0.0.1:1", .deadline = absl::Seconds(10)});
  EXPECT_EQ(client->GetDemo().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(client->CheckHealth("").status().code(), absl::StatusCode::kUnavailable);
}

TEST(Client, Health) {
  FakeServer server;
  const auto client = ClientOf(server);
  EXPECT_EQ(*client->CheckHealth(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(*client->CheckHealth("no.such.Service"), HealthCheckResponse::SERVICE_UNKNOWN);
  server.SetServing(false);
  EXPECT_EQ(*client->CheckHealth(""), HealthCheckResponse::NOT_SERVING);
}

// Two replicas at one name: calls go to both, and to the one that serves when the other says it does not.
TEST(Client, SpreadsOverReplicasThatServe) {
  FakeServer first;
  FakeServer second;
  const auto client =
      *Client::Create({.address = "ipv4:" + first.address() + "," + second.address(), .deadline = absl::Seconds(10)});
  for (int i = 0; i < 100 && (first.calls() < 2 || second.calls() < 2); ++i) {
    ASSERT_TRUE(client->GetDemo().ok());
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_GE(first.calls(), 2);
  EXPECT_GE(second.calls(), 2);
  first.SetServing(false);
  absl::SleepFor(absl::Milliseconds(500));
  const int before = first.calls();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(client->GetDemo().ok());
  EXPECT_EQ(first.calls(), before);
}

TEST(Client, AsksWhoeverAnswersWhereItDoesNotSpread) {
  FakeServer server;
  server.SetServing(false);
  EXPECT_EQ(ClientOf(server)->GetDemo().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(server.calls(), 0);
  EXPECT_TRUE((*Client::Create({.address = server.address(), .spread_over_replicas = false}))->GetDemo().ok());
}

TEST(Client, ManyThreads) {
  FakeServer server;
  const auto client = ClientOf(server);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int call = 0; call < 20; ++call) EXPECT_TRUE(client->Attend(RequestOf(100)).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(server.calls(), 160);
}

}  // namespace
}  // namespace headlight::client
