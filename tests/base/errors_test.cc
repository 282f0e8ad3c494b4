#include "server/base/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

using testing::Pair;
using testing::UnorderedElementsAre;

TEST(ErrorReason, HasANameOfItsOwn) {
  std::set<std::string> names;
  for (int i = 0; i < kErrorReasons; ++i) names.insert(std::string(NameOf(static_cast<ErrorReason>(i))));
  EXPECT_EQ(names, (std::set<std::string>{"INVALID_REQUEST", "REQUEST_TOO_EXPENSIVE", "RESPONSE_TOO_LARGE",
                                          "LAYER_NOT_FOUND", "SERVER_OVERLOADED", "DEADLINE_EXCEEDED", "DRAINING",
                                          "NOT_READY", "DRAIN_ABORTED", "NOT_IMPLEMENTED", "CANCELLED", "INTERNAL",
                                          "UNAUTHENTICATED", "PERMISSION_DENIED", "LAYER_EXISTS"}));
}

TEST(MakeError, KeepsCodeMessageAndEveryDetail) {
  for (int i = 0; i < kErrorReasons; ++i) {
    ErrorDetails details;
    details.reason = static_cast<ErrorReason>(i);
    details.violations = {{"query.shape", "[1, 2]", "rank 3"}, {"tokens[2]", "", "at most 128 bytes"}};
    details.violation_count = 17;
    details.metadata = {{"limit_bytes", "1000"}, {"layer", "demo"}, {"empty", ""}};
    details.retry_after_seconds = 1.25;
    const absl::Status status = MakeError(absl::StatusCode::kUnavailable, "come back later", details);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(status.message(), "come back later");
    const ErrorDetails got = DetailsOf(status);
    EXPECT_EQ(got.reason, details.reason);
    EXPECT_EQ(got.violation_count, 17);
    EXPECT_EQ(got.retry_after_seconds, 1.25);
    EXPECT_EQ(got.metadata, details.metadata);
    ASSERT_EQ(got.violations.size(), 2U);
    EXPECT_EQ(got.violations[0].field, "query.shape");
    EXPECT_EQ(got.violations[0].got, "[1, 2]");
    EXPECT_EQ(got.violations[0].expected, "rank 3");
    EXPECT_EQ(got.violations[1].field, "tokens[2]");
    EXPECT_EQ(got.violations[1].got, "");
  }
}

TEST(MakeError, DetailsSurviveACopyOfTheStatus) {
  ErrorDetails details;
  details.reason = ErrorReason::kDrainAborted;
  const absl::Status first = MakeError(absl::StatusCode::kUnavailable, "x", details);
  const absl::Status copy = first;  // NOLINT(performance-unnecessary-copy-initialization)
  EXPECT_EQ(DetailsOf(copy).reason, ErrorReason::kDrainAborted);
}

TEST(MakeError, CleansMetadataThatACallerChose) {
  ErrorDetails details;
  details.reason = ErrorReason::kLayerNotFound;
  details.metadata["layer"] =
      "a\x1f"
      "b\x1e"
      "v\n\xff";
  details.metadata["long"] = std::string(500, 'x');
  const ErrorDetails got = DetailsOf(MakeError(absl::StatusCode::kNotFound, "x", details));
  EXPECT_EQ(got.reason, ErrorReason::kLayerNotFound);
  EXPECT_THAT(got.metadata,
              UnorderedElementsAre(Pair("layer", "a?b?v??"), Pair("long", std::string(117, 'x') + "...")));
  EXPECT_TRUE(got.violations.empty());
}

TEST(DetailsOf, FollowsFromTheCodeWhereNothingIsAttached) {
  const std::pair<absl::StatusCode, ErrorReason> expected[] = {
      {absl::StatusCode::kInvalidArgument, ErrorReason::kInvalidRequest},
      {absl::StatusCode::kNotFound, ErrorReason::kLayerNotFound},
      {absl::StatusCode::kResourceExhausted, ErrorReason::kServerOverloaded},
      {absl::StatusCode::kDeadlineExceeded, ErrorReason::kDeadlineExceeded},
      {absl::StatusCode::kUnavailable, ErrorReason::kDraining},
      {absl::StatusCode::kUnimplemented, ErrorReason::kNotImplemented},
      {absl::StatusCode::kCancelled, ErrorReason::kCancelled},
      {absl::StatusCode::kUnauthenticated, ErrorReason::kUnauthenticated},
      {absl::StatusCode::kInternal, ErrorReason::kInternal},
      {absl::StatusCode::kUnknown, ErrorReason::kInternal},
      {absl::StatusCode::kOutOfRange, ErrorReason::kInternal}};
  for (const auto& [code, reason] : expected) {
    const ErrorDetails details = DetailsOf(absl::Status(code, "plain"));
    EXPECT_EQ(details.reason, reason) << code;
    EXPECT_EQ(details.violation_count, 0);
    EXPECT_TRUE(details.violations.empty());
  }
}

TEST(Violations, AreOkWhereThereAreNone) {
  const Violations violations;
  EXPECT_TRUE(violations.empty());
  EXPECT_EQ(violations.count(), 0);
  EXPECT_TRUE(violations.ToStatus().ok());
}

TEST(Violations, SayFieldGotAndExpectedOfEach) {
  Violations violations;
  violations.Add("a.shape", "rank 1", "rank 2");
  EXPECT_EQ(violations.ToStatus().message(), "1 violation: a.shape: got rank 1, expected rank 2");
  violations.Add("b", "7", "0 to 3");
  const absl::Status status = violations.ToStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "2 violations: a.shape: got rank 1, expected rank 2; b: got 7, expected 0 to 3");
  const ErrorDetails details = DetailsOf(status);
  EXPECT_EQ(details.reason, ErrorReason::kInvalidRequest);
  ASSERT_EQ(details.violations.size(), 2U);
  EXPECT_EQ(details.violations[1].field, "b");
  EXPECT_EQ(details.violations[1].got, "7");
  EXPECT_EQ(details.violations[1].expected, "0 to 3");
}

TEST(Violations, KeepTheFirstEightAndCountAll) {
  for (const int count : {7, 8, 9, 100000}) {
    Violations violations;
    for (int i = 0; i < count; ++i) violations.Add(absl::StrCat("field", i), "x", "y");
    const absl::Status status = violations.ToStatus();
    const ErrorDetails details = DetailsOf(status);
    EXPECT_EQ(details.violation_count, count);
    ASSERT_EQ(details.violations.size(), static_cast<std::size_t>(std::min(count, kMostViolations)));
    for (std::size_t i = 0; i < details.violations.size(); ++i) {
      EXPECT_EQ(details.violations[i].field, absl::StrCat("field", i));
    }
    EXPECT_TRUE(absl::StartsWith(status.message(), absl::StrCat(count, " violations: ")));
    EXPECT_EQ(absl::EndsWith(status.message(), "; ..."), count > kMostViolations);
  }
}

TEST(Violations, AreTooExpensiveOnlyWhereNothingButLimitsIsExceeded) {
  Violations limits;
  limits.AddTooExpensive("tokens", "99", "at most 10");
  limits.AddTooExpensive("batch", "99", "at most 10");
  EXPECT_EQ(limits.count(), 2);
  EXPECT_EQ(limits.ToStatus().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(limits.ToStatus()).reason, ErrorReason::kRequestTooExpensive);
  limits.Add("shape", "rank 9", "rank 2");
  EXPECT_EQ(DetailsOf(limits.ToStatus()).reason, ErrorReason::kInvalidRequest);
  EXPECT_EQ(DetailsOf(limits.ToStatus()).violation_count, 3);
}

// Bytes that a caller chose come back in an error: they must neither break its framing nor its UTF-8, nor fill it.
TEST(Violations, CleanTexts) {
  Violations violations;
  violations.Add("a\nb", "caf\xc3\xa9\x7f", std::string("nul\0!", 5));
  violations.Add(
      "r\x1f"
      "0\x1e",
      "v\x1fx\x1fy\x1fz\x1e", "~ kept");
  const ErrorDetails details = DetailsOf(violations.ToStatus());
  ASSERT_EQ(details.violations.size(), 2U);
  EXPECT_EQ(details.violations[0].field, "a?b");
  EXPECT_EQ(details.violations[0].got, "caf???");
  EXPECT_EQ(details.violations[0].expected, "nul?!");
  EXPECT_EQ(details.violations[1].field, "r?0?");
  EXPECT_EQ(details.violations[1].got, "v?x?y?z?");
  EXPECT_EQ(details.violations[1].expected, "~ kept");
}

TEST(Violations, CutLongTextsAt120Bytes) {
  Violations violations;
  violations.Add(std::string(120, 'f'), std::string(121, 'g'), std::string(100000, 'e'));
  const ErrorDetails details = DetailsOf(violations.ToStatus());
  ASSERT_EQ(details.violations.size(), 1U);
  EXPECT_EQ(details.violations[0].field, std::string(120, 'f'));
  EXPECT_EQ(details.violations[0].got, std::string(117, 'g') + "...");
  EXPECT_EQ(details.violations[0].expected, std::string(117, 'e') + "...");
}

TEST(RenameFields, ChangesThePathsThatBeginSo) {
  Violations violations;
  violations.Add("self_attention.embeddings.shape", "[1]", "[T, E]");
  violations.Add("options.scale", "0", "above 0");
  const absl::Status renamed = RenameFields(violations.ToStatus(), "self_attention.", "sequences[3].");
  EXPECT_EQ(renamed.code(), absl::StatusCode::kInvalidArgument);
  const ErrorDetails details = DetailsOf(renamed);
  ASSERT_EQ(details.violations.size(), 2U);
  EXPECT_EQ(details.violations[0].field, "sequences[3].embeddings.shape");
  EXPECT_EQ(details.violations[1].field, "options.scale");
  EXPECT_EQ(details.violation_count, 2);
  EXPECT_EQ(
      renamed.message(),
      "2 violations: sequences[3].embeddings.shape: got [1], expected [T, E]; options.scale: got 0, expected above 0");
}

TEST(RenameFields, LeavesOtherStatusesAlone) {
  EXPECT_TRUE(RenameFields(absl::OkStatus(), "a", "b").ok());
  const absl::Status none = absl::NotFoundError("no layer");
  EXPECT_EQ(RenameFields(none, "a", "b"), none);
  EXPECT_EQ(RenameFields(absl::NotFoundError("a.layer: none"), "a.", "").message(), "layer: none");
}

}  // namespace
}  // namespace headlight
