#include "client/cpp/retries.h"

#include <utility>

#include "absl/time/clock.h"

namespace headlight::client {

Attempts::Attempts(int most, absl::Time end, std::string authorization)
    : most_(most), end_(end), authorization_(std::move(authorization)) {}

std::unique_ptr<grpc::ClientContext> Attempts::Next() {
  ++made_;
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(absl::ToChronoTime(end_));
  if (!authorization_.empty()) context->AddMetadata("authorization", authorization_);
  return context;
}

std::optional<absl::Duration> Attempts::DelayAfter(const absl::Status& status) const {
  const std::optional<absl::Duration> delay = DetailsOf(status).retry_delay;
  if (!absl::IsResourceExhausted(status) || made_ >= most_) return std::nullopt;
  if (!delay.has_value() || absl::Now() + *delay >= end_) return std::nullopt;
  return delay;
}

}  // namespace headlight::client
