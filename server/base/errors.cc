#include "server/base/errors.h"

#include <optional>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace headlight {
namespace {

constexpr absl::string_view kPayloadUrl = "headlight/error-details";
constexpr char kFieldEnd = '\x1f';
constexpr char kRecordEnd = '\x1e';
constexpr std::size_t kMostText = 120;

// The separators never occur in a cleaned text, and neither does what could not be printed or would break UTF-8.
std::string Clean(std::string text) {
  for (char& c : text) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  if (text.size() > kMostText) text = text.substr(0, kMostText - 3) + "...";
  return text;
}

std::string Record(std::initializer_list<absl::string_view> fields) {
  return absl::StrCat(absl::StrJoin(fields, std::string(1, kFieldEnd)), std::string(1, kRecordEnd));
}

std::string Serialize(const ErrorDetails& details) {
  std::string text = Record({"r", absl::StrCat(static_cast<int>(details.reason)), absl::StrCat(details.violation_count),
                             absl::StrCat(details.retry_after_seconds)});
  for (const Violation& v : details.violations) text += Record({"v", v.field, v.got, v.expected});
  for (const auto& [key, value] : details.metadata) text += Record({"m", key, Clean(value)});
  return text;
}

ErrorDetails Parse(const std::string& text) {
  ErrorDetails details;
  for (const absl::string_view record : absl::StrSplit(text, kRecordEnd, absl::SkipEmpty())) {
    const std::vector<std::string> f = absl::StrSplit(record, kFieldEnd);
    if (f[0] == "r" && f.size() == 4) {
      int reason = 0;
      if (absl::SimpleAtoi(f[1], &reason)) details.reason = static_cast<ErrorReason>(reason);
      (void)absl::SimpleAtoi(f[2], &details.violation_count);
      (void)absl::SimpleAtod(f[3], &details.retry_after_seconds);
    } else if (f[0] == "v" && f.size() == 4) {
      details.violations.push_back({f[1], f[2], f[3]});
    } else if (f[0] == "m" && f.size() == 3) {
      details.metadata[f[1]] = f[2];
    }
  }
  return details;
}

std::string InWords(const std::vector<Violation>& violations, std::int64_t count) {
  std::string message = absl::StrCat(count, count == 1 ? " violation: " : " violations: ");
  absl::StrAppend(&message, absl::StrJoin(violations, "; ", [](std::string* out, const Violation& v) {
    absl::StrAppend(out, v.field, ": got ", v.got, ", expected ", v.expected);
  }));
  if (count > static_cast<std::int64_t>(violations.size())) absl::StrAppend(&message, "; ...");
  return message;
}

ErrorReason ReasonOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument: return ErrorReason::kInvalidRequest;
    case absl::StatusCode::kNotFound: return ErrorReason::kLayerNotFound;
    case absl::StatusCode::kResourceExhausted: return ErrorReason::kServerOverloaded;
    case absl::StatusCode::kDeadlineExceeded: return ErrorReason::kDeadlineExceeded;
    case absl::StatusCode::kUnavailable: return ErrorReason::kDraining;
    case absl::StatusCode::kUnimplemented: return ErrorReason::kNotImplemented;
    case absl::StatusCode::kCancelled: return ErrorReason::kCancelled;
    case absl::StatusCode::kUnauthenticated: return ErrorReason::kUnauthenticated;
    case absl::StatusCode::kPermissionDenied: return ErrorReason::kPermissionDenied;
    case absl::StatusCode::kAlreadyExists: return ErrorReason::kLayerExists;
    default: return ErrorReason::kInternal;
  }
}

}  // namespace

absl::string_view NameOf(ErrorReason reason) {
  switch (reason) {
    case ErrorReason::kInvalidRequest: return "INVALID_REQUEST";
    case ErrorReason::kRequestTooExpensive: return "REQUEST_TOO_EXPENSIVE";
    case ErrorReason::kResponseTooLarge: return "RESPONSE_TOO_LARGE";
    case ErrorReason::kLayerNotFound: return "LAYER_NOT_FOUND";
    case ErrorReason::kServerOverloaded: return "SERVER_OVERLOADED";
    case ErrorReason::kDeadlineExceeded: return "DEADLINE_EXCEEDED";
    case ErrorReason::kDraining: return "DRAINING";
    case ErrorReason::kNotReady: return "NOT_READY";
    case ErrorReason::kDrainAborted: return "DRAIN_ABORTED";
    case ErrorReason::kNotImplemented: return "NOT_IMPLEMENTED";
    case ErrorReason::kCancelled: return "CANCELLED";
    case ErrorReason::kInternal: return "INTERNAL";
    case ErrorReason::kUnauthenticated: return "UNAUTHENTICATED";
    case ErrorReason::kPermissionDenied: return "PERMISSION_DENIED";
    case ErrorReason::kLayerExists: return "LAYER_EXISTS";
  }
  return "INTERNAL";
}

void Violations::Add(std::string field, std::string got, std::string expected) {
  ++count_;
  if (kept_.size() < kMostViolations) {
    kept_.push_back({Clean(std::move(field)), Clean(std::move(got)), Clean(std::move(expected))});
  }
}

void Violations::AddTooExpensive(std::string field, std::string got, std::string expected) {
  ++too_expensive_;
  Add(std::move(field), std::move(got), std::move(expected));
}

absl::Status Violations::ToStatus() const {
  if (empty()) return absl::OkStatus();
  const bool only_limits = too_expensive_ == count_;
  ErrorDetails details;
  details.reason = only_limits ? ErrorReason::kRequestTooExpensive : ErrorReason::kInvalidRequest;
  details.violations = kept_;
  details.violation_count = count_;
  if (only_limits) {
    details.metadata["asked"] = kept_.front().got;
    details.metadata["limit"] = kept_.front().expected;
  }
  return MakeError(absl::StatusCode::kInvalidArgument, InWords(kept_, count_), details);
}

absl::Status RenameFields(const absl::Status& status, absl::string_view from, absl::string_view to) {
  if (status.ok()) return status;
  ErrorDetails details = DetailsOf(status);
  if (details.violations.empty() && absl::StartsWith(status.message(), from)) {
    return MakeError(status.code(), absl::StrCat(to, status.message().substr(from.size())), details);
  }
  if (details.violations.empty()) return status;
  for (Violation& v : details.violations) {
    if (absl::StartsWith(v.field, from)) v.field = Clean(absl::StrCat(to, v.field.substr(from.size())));
  }
  return MakeError(status.code(), InWords(details.violations, details.violation_count), details);
}

absl::Status MakeError(absl::StatusCode code, absl::string_view message, const ErrorDetails& details) {
  absl::Status status(code, message);
  status.SetPayload(kPayloadUrl, absl::Cord(Serialize(details)));
  return status;
}

ErrorDetails DetailsOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  if (payload.has_value()) return Parse(std::string(*payload));
  ErrorDetails details;
  details.reason = ReasonOf(status.code());
  if (status.code() == absl::StatusCode::kResourceExhausted) details.retry_after_seconds = 1;
  return details;
}

}  // namespace headlight
