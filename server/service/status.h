// The one door through which errors leave: absl::Status to grpc::Status with google.rpc details.
#ifndef HEADLIGHT_SERVER_SERVICE_STATUS_H_
#define HEADLIGHT_SERVER_SERVICE_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace headlight {

// ErrorInfo always (domain "headlight.v1"), BadRequest where there are violations (the first 8; ErrorInfo's metadata
// "violations" has the right count), RetryInfo where the caller should come back. Details stay under 2 KiB. INTERNAL
// says nothing of the inside.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_STATUS_H_
