// The attempts of one call: when the next may be, and what each carries.
#ifndef HEADLIGHT_CLIENT_CPP_RETRIES_H_
#define HEADLIGHT_CLIENT_CPP_RETRIES_H_

#include <grpcpp/client_context.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cpp/errors.h"

namespace headlight::client {

// Not thread-safe.
class Attempts {
 public:
  // `end` is when all of them must have ended; `authorization`, where not empty, goes with each. `streams`: of a
  // stream.
  Attempts(int most, absl::Time end, std::string authorization, bool streams = false);

  // What the next attempt is made with.
  std::unique_ptr<grpc::ClientContext> Next();

  // How long to wait before another after one that ended so; none: there is no other. UNAVAILABLE is for us where the
  // call is a stream, which begins anew; others gRPC has tried again by then.
  std::optional<absl::Duration> DelayAfter(const absl::Status& status) const;

 private:
  const int most_;
  const absl::Time end_;
  const std::string authorization_;
  const bool streams_;
  int made_ = 0;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CPP_RETRIES_H_
