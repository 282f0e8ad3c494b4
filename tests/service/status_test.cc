#include "server/service/status.h"

#include <gmock/gmock.h>
#include <google/rpc/error_details.pb.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "headlight/v1/error_reason.pb.h"
#include "server/base/errors.h"

namespace headlight {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using testing::StartsWith;
using testing::UnorderedElementsAre;

// The details of a status as a client reads them.
struct Read {
  google::rpc::Status rpc;
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad;
  google::rpc::RetryInfo retry;
  int infos = 0;
  int bads = 0;
  int retries = 0;
};

Read ReadDetails(const grpc::Status& status) {
  Read read;
  EXPECT_TRUE(read.rpc.ParseFromString(status.error_details()));
  for (const auto& detail : read.rpc.details()) {
    if (detail.UnpackTo(&read.info)) ++read.infos;
    if (detail.UnpackTo(&read.bad)) ++read.bads;
    if (detail.UnpackTo(&read.retry)) ++read.retries;
  }
  EXPECT_EQ(read.infos + read.bads + read.retries, read.rpc.details_size());
  return read;
}

// What holds of every error, whatever it is.
Read ReadChecked(const grpc::Status& status) {
  Read read = ReadDetails(status);
  EXPECT_LE(status.error_details().size(), 2048U);
  EXPECT_EQ(read.rpc.code(), static_cast<int>(status.error_code()));
  // Python's grpc_status refuses both where they differ.
  EXPECT_EQ(read.rpc.message(), status.error_message());
  EXPECT_EQ(read.infos, 1);
  EXPECT_EQ(read.info.domain(), "headlight.v1");
  return read;
}

ErrorDetails WithViolations(int count, const std::string& field, std::size_t text) {
  ErrorDetails details;
  details.reason = ErrorReason::kInvalidRequest;
  for (int i = 0; i < count; ++i) details.violations.push_back({field, std::string(text, 'g'), std::string(text, 'e')});
  details.violation_count = count;
  return details;
}

TEST(ToGrpcStatus, OkStaysOk) {
  const grpc::Status status = ToGrpcStatus(absl::OkStatus());
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.error_message(), "");
  EXPECT_EQ(status.error_details(), "");
}

TEST(ToGrpcStatus, KeepsEveryCode) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "what went wrong");
    const grpc::Status got = ToGrpcStatus(status);
    EXPECT_EQ(static_cast<int>(got.error_code()), code);
    ReadChecked(got);
    EXPECT_EQ(got.error_message() == "what went wrong", status.code() != absl::StatusCode::kInternal);
  }
}

TEST(ToGrpcStatus, ReasonFollowsFromTheCodeWhereNoneIsGiven) {
  const std::map<absl::StatusCode, std::string> reasons = {
      {absl::StatusCode::kInvalidArgument, "INVALID_REQUEST"},
      {absl::StatusCode::kNotFound, "LAYER_NOT_FOUND"},
      {absl::StatusCode::kResourceExhausted, "SERVER_OVERLOADED"},
      {absl::StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED"},
      {absl::StatusCode::kUnavailable, "DRAINING"},
      {absl::StatusCode::kUnimplemented, "NOT_IMPLEMENTED"},
      {absl::StatusCode::kCancelled, "CANCELLED"},
      {absl::StatusCode::kInternal, "INTERNAL"},
      {absl::StatusCode::kUnknown, "INTERNAL"},
      {absl::StatusCode::kDataLoss, "INTERNAL"},
  };
  for (const auto& [code, reason] : reasons) {
    EXPECT_EQ(ReadChecked(ToGrpcStatus(absl::Status(code, "x"))).info.reason(), reason);
  }
}

TEST(ToGrpcStatus, EveryReasonIsOneOfTheContract) {
  for (int i = 0; i < kErrorReasons; ++i) {
    ErrorDetails details;
    details.reason = static_cast<ErrorReason>(i);
    const Read read = ReadChecked(ToGrpcStatus(MakeError(absl::StatusCode::kUnavailable, "x", details)));
    v1::ErrorReason number = v1::ERROR_REASON_UNSPECIFIED;
    EXPECT_TRUE(v1::ErrorReason_Parse(absl::StrCat("ERROR_REASON_", read.info.reason()), &number))
        << read.info.reason();
    EXPECT_NE(number, v1::ERROR_REASON_UNSPECIFIED);
  }
  EXPECT_EQ(kErrorReasons, v1::ErrorReason_ARRAYSIZE - 1);
}

TEST(ToGrpcStatus, CarriesViolationsInTheirOrder) {
  Violations violations;
  violations.Add("query_key_value.key.shape", "[1, 2]", "rank 4");
  violations.Add("options.scale", "nan", "a finite number");
  const grpc::Status status = ToGrpcStatus(violations.ToStatus());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const Read read = ReadChecked(status);
  EXPECT_EQ(read.info.reason(), "INVALID_REQUEST");
  EXPECT_THAT(read.info.metadata(), UnorderedElementsAre(Pair("violations", "2")));
  ASSERT_EQ(read.bads, 1);
  ASSERT_EQ(read.bad.field_violations_size(), 2);
  EXPECT_EQ(read.bad.field_violations(0).field(), "query_key_value.key.shape");
  EXPECT_EQ(read.bad.field_violations(0).description(), "got [1, 2], expected rank 4");
  EXPECT_EQ(read.bad.field_violations(1).field(), "options.scale");
  EXPECT_EQ(read.bad.field_violations(1).description(), "got nan, expected a finite number");
  EXPECT_THAT(status.error_message(), HasSubstr("query_key_value.key.shape: got [1, 2], expected rank 4"));
}

TEST(ToGrpcStatus, CarriesTheFirstEightOfManyAndTheRightCount) {
  Violations violations;
  for (int i = 0; i < 1000; ++i) violations.Add(absl::StrCat("tokens[", i, "]"), "129 bytes", "at most 128");
  const Read read = ReadChecked(ToGrpcStatus(violations.ToStatus()));
  ASSERT_EQ(read.bad.field_violations_size(), 8);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(read.bad.field_violations(i).field(), absl::StrCat("tokens[", i, "]"));
  EXPECT_EQ(read.info.metadata().at("violations"), "1000");
}

TEST(ToGrpcStatus, EightHugeViolationsFitAndKeepTheirPaths) {
  const std::string path = "self_attention.layer_weights.output_bias.shape";
  Violations violations;
  for (int i = 0; i < 8; ++i) violations.Add(path, std::string(100'000, 'g'), std::string(100'000, 'e'));
  const Read read = ReadChecked(ToGrpcStatus(violations.ToStatus()));
  ASSERT_EQ(read.bad.field_violations_size(), 8);
  for (const auto& violation : read.bad.field_violations()) {
    EXPECT_EQ(violation.field(), path);
    EXPECT_THAT(violation.description(), StartsWith("got gggg"));
    EXPECT_THAT(violation.description(), HasSubstr(", expected eeee"));
  }
}

TEST(ToGrpcStatus, DetailsFitWhateverTheirTexts) {
  for (const std::size_t text : {0, 1, 15, 16, 17, 63, 64, 65, 119, 120, 121, 5000}) {
    ErrorDetails details = WithViolations(8, std::string(text, 'f'), text);
    details.metadata = {{"fields", std::string(text, 'm')}, {"layer", std::string(text, 'l')}};
    details.retry_after_seconds = 1;
    const std::string message(text * 40, 'x');
    const grpc::Status status = ToGrpcStatus(MakeError(absl::StatusCode::kInvalidArgument, message, details));
    const Read read = ReadChecked(status);
    EXPECT_EQ(read.bad.field_violations_size(), 8) << text;
    EXPECT_EQ(read.retries, 1) << text;
    EXPECT_LE(status.error_message().size(), message.size());
    EXPECT_EQ(status.error_message().empty(), message.empty());
  }
}

TEST(ToGrpcStatus, SaysNothingOfTheInside) {
  const absl::Status inside = absl::InternalError("could not create a primitive at /src/kernels/matmul.cc:117");
  const grpc::Status status = ToGrpcStatus(inside);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(status.error_message(), Not(HasSubstr("primitive")));
  EXPECT_THAT(status.error_details(), Not(HasSubstr("primitive")));
  EXPECT_THAT(status.error_details(), Not(HasSubstr("matmul.cc")));
  EXPECT_FALSE(status.error_message().empty());
  EXPECT_EQ(ReadChecked(status).info.reason(), "INTERNAL");
}

TEST(ToGrpcStatus, CarriesWhenToComeBack) {
  ErrorDetails details;
  details.reason = ErrorReason::kServerOverloaded;
  details.retry_after_seconds = 1.25;
  const Read read = ReadChecked(ToGrpcStatus(MakeError(absl::StatusCode::kResourceExhausted, "full", details)));
  EXPECT_EQ(read.info.reason(), "SERVER_OVERLOADED");
  ASSERT_EQ(read.retries, 1);
  EXPECT_EQ(read.retry.retry_delay().seconds(), 1);
  EXPECT_EQ(read.retry.retry_delay().nanos(), 250'000'000);
  EXPECT_EQ(read.bads, 0);
}

TEST(ToGrpcStatus, CarriesMetadata) {
  ErrorDetails details;
  details.reason = ErrorReason::kResponseTooLarge;
  details.metadata = {{"limit_bytes", "1000"}, {"response_bytes", "2000"}};
  const Read read = ReadChecked(ToGrpcStatus(MakeError(absl::StatusCode::kInvalidArgument, "too large", details)));
  EXPECT_THAT(read.info.metadata(), UnorderedElementsAre(Pair("limit_bytes", "1000"), Pair("response_bytes", "2000")));
  EXPECT_EQ(read.retries, 0);
  EXPECT_EQ(read.bads, 0);
}

TEST(ToGrpcStatus, HostileTextsDoNotBreakTheMessage) {
  Violations violations;
  violations.Add("tokens[0]", "\x1f\x1e\xff\xfe \xc3\x28", std::string("a\0b", 3));
  const grpc::Status status = ToGrpcStatus(violations.ToStatus());
  const Read read = ReadChecked(status);
  for (const char c : status.error_message()) {
    EXPECT_GE(c, 0x20);
    EXPECT_LT(c, 0x7f);
  }
  ASSERT_EQ(read.bad.field_violations_size(), 1);
  EXPECT_EQ(read.bad.field_violations(0).field(), "tokens[0]");
}

}  // namespace
}  // namespace headlight
