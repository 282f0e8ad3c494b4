#include "server/telemetry/call_log.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/time/clock.h"

namespace headlight {
namespace {

using nlohmann::json;

CallRecord Computed() {
  CallRecord record;
  record.request_id = "abc-1";
  record.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  record.seconds = 0.0123456789;
  record.shape = CallShape{1, 8, 2, 128, 256, 64, 32};
  record.algorithm = "flash";
  record.stage_seconds[Stage::kAttend] = 0.01;
  record.stage_seconds[Stage::kQueue] = 0.000002;
  record.request_bytes = 1000;
  record.response_bytes = 2000;
  return record;
}

TEST(CallLog, ALineIsJsonWithWhatOneWantsToKnow) {
  const absl::Time when = absl::FromUnixMillis(1'790'000'000'123);
  const std::string line = ToJson(Computed(), when, 0);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(json::parse(line), json::parse(R"({
    "time": "2026-09-21T14:13:20.123Z", "event": "call", "method": "Attend", "code": "OK", "request_id": "abc-1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "seconds": 0.012345,
    "algorithm": "flash",
    "shape": {"batch": 1, "query_heads": 8, "key_value_heads": 2, "query_tokens": 128, "key_tokens": 256,
              "head_size": 64, "value_head_size": 32},
    "stage_seconds": {"queue": 2e-6, "attend": 0.01}, "request_bytes": 1000, "response_bytes": 2000})"));
}

TEST(CallLog, WhatFailedBeforeItsPlanHasAReasonAndNoShape) {
  CallRecord record;
  record.method = Method::kGetDemo;
  record.request_id = "1";
  record.code = absl::StatusCode::kUnauthenticated;
  record.reason = ErrorReason::kUnauthenticated;
  const json line = json::parse(ToJson(record, absl::Now(), 12));
  EXPECT_EQ(line["method"], "GetDemo");
  EXPECT_EQ(line["code"], "UNAUTHENTICATED");
  EXPECT_EQ(line["reason"], "UNAUTHENTICATED");
  EXPECT_EQ(line["suppressed"], 12);
  for (const char* absent : {"traceparent", "algorithm", "shape", "stage_seconds"}) EXPECT_FALSE(line.contains(absent));
}

TEST(CallLog, ALineIsOneLineWhateverSlipsIn) {
  CallRecord record;
  record.request_id = "a\"\n\xff";
  const std::string line = ToJson(record, absl::Now(), 0);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_TRUE(json::accept(line)) << line;
}

TEST(CallLog, AFloodIsCountedAndHidesNothingOfTheOthers) {
  std::vector<json> lines;
  CallLog log(10, [&](const std::string& line) { lines.push_back(json::parse(line)); });
  int described = 0;
  const auto call = [&](bool well) {
    log.Ended(well, [&] {
      ++described;
      CallRecord record = Computed();
      if (!well) record.reason = ErrorReason::kServerOverloaded;
      return record;
    });
  };
  for (int i = 0; i < 10000; ++i) call(true);
  const std::size_t of_flood = lines.size();
  EXPECT_GE(of_flood, 10U);
  EXPECT_LT(of_flood, 1000U);  // a second's worth, and what the loop's time adds
  EXPECT_EQ(described, static_cast<int>(of_flood));
  call(false);
  ASSERT_EQ(lines.size(), of_flood + 1);
  EXPECT_EQ(lines.back()["reason"], "SERVER_OVERLOADED");
  EXPECT_FALSE(lines.back().contains("suppressed"));
  absl::SleepFor(absl::Milliseconds(250));
  call(true);
  ASSERT_EQ(lines.size(), of_flood + 2);
  std::int64_t suppressed = 0;
  for (const json& line : lines) suppressed += line.value("suppressed", std::int64_t{0});
  EXPECT_EQ(suppressed + static_cast<std::int64_t>(of_flood), 10000);
}

TEST(CallLog, NoneIsAskedForWhereNoneIsWanted) {
  CallLog log(0, [](const std::string&) { FAIL(); });
  log.Ended(false, [] {
    ADD_FAILURE();
    return CallRecord();
  });
}

}  // namespace
}  // namespace headlight
