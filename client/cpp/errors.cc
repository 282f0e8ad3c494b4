#include "client/cpp/errors.h"

#include <cstdint>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/rpc/error_details.pb.h"

namespace headlight::client {
namespace {

template <typename Message>
std::string UrlOf() {
  return absl::StrCat("type.googleapis.com/", Message::descriptor()->full_name());
}

template <typename Message>
std::optional<Message> PayloadOf(const absl::Status& status) {
  const auto payload = status.GetPayload(UrlOf<Message>());
  Message message;
  if (!payload.has_value() || !message.ParseFromString(std::string(*payload))) return std::nullopt;
  return message;
}

std::optional<std::int64_t> PushbackMillis(const std::multimap<grpc::string_ref, grpc::string_ref>& trailing) {
  const auto entry = trailing.find("grpc-retry-pushback-ms");
  if (entry == trailing.end()) return std::nullopt;
  std::int64_t millis = 0;
  // gRPC's own rule: a value that cannot be read forbids a retry.
  if (!absl::SimpleAtoi(absl::string_view(entry->second.data(), entry->second.size()), &millis)) return -1;
  return millis;
}

}  // namespace

ErrorInfo DetailsOf(const absl::Status& status) {
  ErrorInfo details;
  if (const auto info = PayloadOf<google::rpc::ErrorInfo>(status)) {
    details.reason = info->reason();
    details.domain = info->domain();
    details.metadata.insert(info->metadata().begin(), info->metadata().end());
  }
  if (const auto bad_request = PayloadOf<google::rpc::BadRequest>(status)) {
    for (const auto& violation : bad_request->field_violations()) {
      details.violations.push_back({violation.field(), violation.description()});
    }
  }
  if (const auto retry = PayloadOf<google::rpc::RetryInfo>(status)) {
    details.retry_delay =
        absl::Seconds(retry->retry_delay().seconds()) + absl::Nanoseconds(retry->retry_delay().nanos());
  }
  return details;
}

absl::Status StatusFromGrpc(const grpc::Status& status,
                            const std::multimap<grpc::string_ref, grpc::string_ref>& trailing) {
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status wire;
  if (wire.ParseFromString(status.error_details())) {
    for (const auto& detail : wire.details()) result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  const std::string retry_url = UrlOf<google::rpc::RetryInfo>();
  const std::optional<std::int64_t> pushback = PushbackMillis(trailing);
  if (pushback.has_value() && *pushback < 0) {
    result.ErasePayload(retry_url);
  } else if (pushback.has_value() && !result.GetPayload(retry_url).has_value()) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(*pushback / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<std::int32_t>(*pushback % 1000) * 1'000'000);
    result.SetPayload(retry_url, absl::Cord(retry.SerializeAsString()));
  }
  return result;
}

}  // namespace headlight::client
