#include "client/cpp/retries.h"

#include <algorithm>
#include <utility>

#include "absl/random/random.h"
#include "absl/time/clock.h"

namespace headlight::client {
namespace {

// As gRPC's for other calls: 0.1 s, twice that each time, at most 1 s, so that clients do not come back together.
absl::Duration Backoff(int made) {
  absl::BitGen random;
  return std::min(absl::Milliseconds(50) * (1 << made), absl::Seconds(1)) * absl::Uniform(random, 0.8, 1.2);
}

}  // namespace

Attempts::Attempts(int most, absl::Time end, std::string authorization, bool streams)
    : most_(most), end_(end), authorization_(std::move(authorization)), streams_(streams) {}

std::unique_ptr<grpc::ClientContext> Attempts::Next() {
  ++made_;
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(absl::ToChronoTime(end_));
  if (!authorization_.empty()) context->AddMetadata("authorization", authorization_);
  return context;
}

std::optional<absl::Duration> Attempts::DelayAfter(const absl::Status& status) const {
  const bool breaks = streams_ && absl::IsUnavailable(status);
  if ((!breaks && !absl::IsResourceExhausted(status)) || made_ >= most_) return std::nullopt;
  std::optional<absl::Duration> delay = DetailsOf(status).retry_delay;
  if (!delay.has_value() && breaks) delay = Backoff(made_);
  if (!delay.has_value() || absl::Now() + *delay >= end_) return std::nullopt;
  return delay;
}

}  // namespace headlight::client
