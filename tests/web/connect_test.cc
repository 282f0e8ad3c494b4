#include "server/web/connect.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "headlight/v1/attention_service.grpc.pb.h"
#include "server/web/connect_error.h"
#include "server/web/connect_metadata.h"

namespace headlight {
namespace {

using testing::HasSubstr;
using testing::Pair;

constexpr char kPath[] = "/headlight.v1.AttentionService/GetServerInfo";

class UntilCancelled final : public grpc::ServerUnaryReactor {
  void OnCancel() override { Finish(grpc::Status::CANCELLED); }
  void OnDone() override { delete this; }
};

// Answers GetServerInfo, and remembers what it was asked with.
class Info final : public v1::AttentionService::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context, const v1::GetServerInfoRequest*,
                                          v1::GetServerInfoResponse* response) override {
    for (const auto& [key, value] : context->client_metadata()) {
      metadata.emplace(std::string(key.data(), key.size()), std::string(value.data(), value.size()));
    }
    context->AddInitialMetadata("lead", "first");
    context->AddTrailingMetadata("trail-bin", std::string("\0\xff", 2));
    context->AddTrailingMetadata("grpc-retry-pushback-ms", "1500");
    response->set_version(std::string(1000, 'v'));
    if (waits) return new UntilCancelled;
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(status);
    return reactor;
  }

  std::multimap<std::string, std::string> metadata;
  grpc::Status status;
  bool waits = false;
};

class ConnectTest : public ::testing::Test {
 protected:
  ConnectTest() {
    grpc::ServerBuilder builder;
    builder.RegisterService(&info_);
    server_ = builder.BuildAndStart();
  }
  ~ConnectTest() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::unique_ptr<ConnectGateway> Gateway(const ConnectLimits& limits = {}) {
    return std::make_unique<ConnectGateway>(
        server_->InProcessChannel({}), std::vector<std::string>{"headlight.v1.AttentionService", "no.Service"}, limits);
  }

  WebAnswer Call(WebHeaders headers, const std::string& body, const ConnectLimits& limits = {}) {
    const auto gateway = Gateway(limits);
    const ConnectHead head{kPath, std::move(headers), -1};
    if (auto refused = gateway->Refuse(head)) return *refused;
    HeldBytes held = gateway->Hold();
    if (auto refused = gateway->RefuseBody(head, 0, static_cast<std::int64_t>(body.size()), held)) return *refused;
    return gateway->Call(head, body, held, [] { return false; });
  }

  Info info_;
  std::unique_ptr<grpc::Server> server_;
};

std::string CodeOf(const WebAnswer& answer) {
  const auto json = nlohmann::json::parse(answer.body, nullptr, false);
  return json.is_object() ? json.value("code", "") : "no JSON";
}

TEST_F(ConnectTest, KnowsUnaryCallsAlone) {
  const auto gateway = Gateway();
  EXPECT_TRUE(gateway->Has(kPath));
  EXPECT_TRUE(gateway->Has("/headlight.v1.AttentionService/Attend"));
  for (const char* path : {"/", "", "/headlight.v1.AttentionService/", "/headlight.v1.LayerService/ListLayers",
                           "headlight.v1.AttentionService/Attend", "/headlight.v1.AttentionService/Attend/"}) {
    EXPECT_FALSE(gateway->Has(path)) << path;
  }
}

TEST_F(ConnectTest, CarriesHeadersBothWays) {
  const WebAnswer answer = Call({{"content-type", "Application/JSON ; charset=utf-8"},
                                 {"x-mine", "a"},
                                 {"x-mine", "b"},
                                 {"x-bytes-bin", "AP8"},
                                 {"x-odd", "caf\xc3\xa9"},
                                 {"grpc-timeout", "1n"},
                                 {"te", "trailers"},
                                 {"cookie", "secret"},
                                 {"sec-fetch-site", "same-origin"}},
                                "{}");
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.type, "application/json");
  EXPECT_THAT(answer.headers, testing::IsSupersetOf(
                                  {Pair("lead", "first"), Pair("trailer-trail-bin", "AP8"), Pair("retry-after", "2")}));
  EXPECT_EQ(info_.metadata.count("x-mine"), 2U);
  EXPECT_THAT(info_.metadata, testing::Contains(Pair("x-bytes-bin", std::string("\0\xff", 2))));
  for (const char* name : {"x-odd", "grpc-timeout", "cookie", "sec-fetch-site"}) {
    EXPECT_EQ(info_.metadata.count(name), 0U) << name;
  }
}

TEST_F(ConnectTest, ErrorsHaveTheProtocolsCodes) {
  for (const auto& [number, code, status] : {std::tuple(1, "canceled", 499),
                                             {3, "invalid_argument", 400},
                                             {8, "resource_exhausted", 429},
                                             {14, "unavailable", 503},
                                             {16, "unauthenticated", 401},
                                             {99, "unknown", 500}}) {
    const WebAnswer answer = ConnectError(grpc::Status(static_cast<grpc::StatusCode>(number), "why\xff"));
    EXPECT_EQ(answer.status, status);
    EXPECT_EQ(CodeOf(answer), code);
    EXPECT_THAT(answer.body, HasSubstr("why"));
  }
  info_.status = grpc::Status(grpc::StatusCode::NOT_FOUND, "nobody");
  const WebAnswer answer = Call({{"content-type", "application/proto"}}, "");
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.type, "application/json");
  EXPECT_THAT(answer.headers, testing::Contains(Pair("lead", "first")));
}

TEST_F(ConnectTest, RefusesBeforeItCalls) {
  const WebHeaders json = {{"content-type", "application/json"}};
  const auto with = [&json](const char* name, const char* value) {
    WebHeaders headers = json;
    headers.emplace_back(name, value);
    return headers;
  };
  EXPECT_EQ(Call({{"content-type", "text/plain"}}, "{}").status, 415);
  EXPECT_EQ(Call({}, "{}").status, 415);
  EXPECT_EQ(CodeOf(Call(with("content-encoding", "gzip"), "{}")), "unimplemented");
  EXPECT_EQ(Call(with("content-encoding", "identity"), "{}").status, 200);
  EXPECT_EQ(CodeOf(Call(with("connect-protocol-version", "2"), "{}")), "invalid_argument");
  EXPECT_EQ(Call(with("connect-timeout-ms", "9999999999"), "{}").status, 200);
  for (const char* timeout : {"12345678901", "-1", "1.5", "+1", " 1"}) {
    EXPECT_EQ(CodeOf(Call(with("connect-timeout-ms", timeout), "{}")), "invalid_argument") << timeout;
  }
  for (const char* body : {"", "{", "[]", "1", R"({"nothing":1})", "{}{}", "\xff"}) {
    EXPECT_EQ(CodeOf(Call(json, body)), "invalid_argument") << body;
  }
  EXPECT_EQ(CodeOf(Call({{"content-type", "application/proto"}}, "\x0f")), "invalid_argument");
}

TEST_F(ConnectTest, JsonIsNotTakenDeeperThanItsLimit) {
  ConnectLimits limits;
  limits.json_depth = 3;
  const WebHeaders json = {{"content-type", "application/json"}};
  EXPECT_THAT(Call(json, R"({"a":{"b":{"c":{}}}})", limits).body, HasSubstr("deeper than 3"));
  EXPECT_THAT(Call(json, R"({"a":"[[[[{{{{","b":"\"[[[["})", limits).body, testing::Not(HasSubstr("deeper")));
}

TEST_F(ConnectTest, BodiesHaveBoundsAloneAndTogether) {
  ConnectLimits limits;
  limits.json_bytes = 10;
  limits.message_bytes = 20;
  const WebHeaders json = {{"content-type", "application/json"}}, proto = {{"content-type", "application/proto"}};
  EXPECT_EQ(Call(json, "{}        ", limits).status, 200);
  EXPECT_EQ(CodeOf(Call(json, "{}         ", limits)), "resource_exhausted");
  EXPECT_EQ(CodeOf(Call(proto, std::string(21, '\0'), limits)), "resource_exhausted");
  EXPECT_EQ(Gateway(limits)->Refuse({kPath, json, 11})->status, 429) << "by its length, before it comes";
  limits = {};
  limits.held_bytes = 1500;  // the answer alone takes a thousand, and as much again
  const WebAnswer large = Call(proto, "", limits);
  EXPECT_EQ(CodeOf(large), "resource_exhausted") << large.body;
  limits.held_bytes = 10'000;
  const auto gateway = Gateway(limits);
  const ConnectHead head{kPath, proto, -1};
  {
    HeldBytes held = gateway->Hold();
    EXPECT_FALSE(gateway->RefuseBody(head, 0, 9000, held).has_value());
    HeldBytes other = gateway->Hold();
    EXPECT_EQ(gateway->RefuseBody(head, 0, 2000, other)->status, 429);
  }
  HeldBytes held = gateway->Hold();
  EXPECT_FALSE(gateway->RefuseBody(head, 0, 9000, held).has_value()) << "given back";
}

TEST_F(ConnectTest, WhoGoesAwayCancels) {
  info_.waits = true;
  const auto gateway = Gateway();
  HeldBytes held = gateway->Hold();
  const WebAnswer answer =
      gateway->Call({kPath, {{"content-type", "application/proto"}}, -1}, "", held, [] { return true; });
  EXPECT_EQ(CodeOf(answer), "canceled");
  const WebAnswer late =
      gateway->Call({kPath, {{"content-type", "application/proto"}, {"connect-timeout-ms", "20"}}, -1}, "", held,
                    [] { return false; });
  EXPECT_EQ(CodeOf(late), "deadline_exceeded");
}

// Keeps what it was sent beyond the end of the call, as a server does that is still reading when it is cancelled.
class Keeps final : public v1::AttentionService::WithRawCallbackMethod_Attend<v1::AttentionService::Service> {
 public:
  grpc::ServerUnaryReactor* Attend(grpc::CallbackServerContext*, const grpc::ByteBuffer* request,
                                   grpc::ByteBuffer*) override {
    kept = *request;
    came.Notify();
    return new UntilCancelled;
  }

  grpc::ByteBuffer kept;
  absl::Notification came;
};

TEST(ConnectBytesTest, OutliveACallThatIsGivenUp) {
  Keeps service;
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  const ConnectGateway gateway(server->InProcessChannel({}), {"headlight.v1.AttentionService"}, {});
  const std::string sent(50'000, 'q');  // longer than what gRPC would copy
  HeldBytes held = gateway.Hold();
  const WebAnswer answer =
      gateway.Call({"/headlight.v1.AttentionService/Attend", {{"content-type", "application/proto"}}, -1}, sent, held,
                   [&] { return service.came.HasBeenNotified(); });
  EXPECT_EQ(CodeOf(answer), "canceled");
  const std::string after(sent.size(), 'x');  // what most likely lies where the bytes would have been freed
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(service.kept.Dump(&slices).ok());
  std::string kept;
  for (const grpc::Slice& slice : slices) kept.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  EXPECT_TRUE(kept == sent) << "not the " << sent.size() << " bytes that were sent; " << after.front();
  service.kept.Clear();
  server->Shutdown(std::chrono::system_clock::now());
}

}  // namespace
}  // namespace headlight
