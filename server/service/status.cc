#include "server/service/status.h"

#include <google/rpc/error_details.pb.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"

namespace headlight {
namespace {

constexpr std::size_t kMostDetailBytes = 2048;
constexpr std::size_t kMostPathBytes = 64;

google::rpc::Status Details(const ErrorDetails& details, std::size_t text) {
  google::rpc::Status rpc;
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(NameOf(details.reason)));
  info.set_domain("headlight.v1");
  for (const auto& [key, value] : details.metadata) (*info.mutable_metadata())[key] = value.substr(0, text);
  if (details.violation_count > 0) (*info.mutable_metadata())["violations"] = absl::StrCat(details.violation_count);
  rpc.add_details()->PackFrom(info);
  if (!details.violations.empty()) {
    google::rpc::BadRequest bad;
    for (const Violation& v : details.violations) {
      auto* violation = bad.add_field_violations();
      violation->set_field(v.field.substr(0, std::max(text, kMostPathBytes)));
      violation->set_description(
          absl::StrCat("got ", v.got.substr(0, text), ", expected ", v.expected.substr(0, text)));
    }
    rpc.add_details()->PackFrom(bad);
  }
  if (details.retry_after_seconds > 0) {
    google::rpc::RetryInfo retry;
    const auto nanos = static_cast<std::int64_t>(details.retry_after_seconds * 1e9);
    retry.mutable_retry_delay()->set_seconds(nanos / 1'000'000'000);
    retry.mutable_retry_delay()->set_nanos(static_cast<std::int32_t>(nanos % 1'000'000'000));
    rpc.add_details()->PackFrom(retry);
  }
  return rpc;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const ErrorDetails details = DetailsOf(status);
  std::string message(status.message());
  if (status.code() == absl::StatusCode::kInternal) message = "internal error; the server's log has more";
  google::rpc::Status rpc;
  // Texts get shorter until everything fits.
  for (std::size_t text : {120, 64, 32, 16}) {
    rpc = Details(details, text);
    rpc.set_code(static_cast<int>(status.code()));
    rpc.set_message(message.substr(0, text * 8));
    if (rpc.ByteSizeLong() <= kMostDetailBytes) break;
  }
  // The codes of absl and gRPC are the same numbers; the message must be that of the details, or clients refuse both.
  return {static_cast<grpc::StatusCode>(status.code()), rpc.message(), rpc.SerializeAsString()};
}

}  // namespace headlight
