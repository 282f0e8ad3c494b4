// What a failed call says beyond its code and message. The details travel as google.rpc messages; here they become
// payloads of an absl::Status under their type URLs, and DetailsOf reads them back.
#ifndef HEADLIGHT_CLIENT_CPP_ERRORS_H_
#define HEADLIGHT_CLIENT_CPP_ERRORS_H_

#include <grpcpp/support/status.h>
#include <grpcpp/support/string_ref.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace headlight::client {

// One thing that is wrong with a request.
struct Violation {
  std::string field;        // path in the contract's names: "query_key_value.key.shape"
  std::string description;  // what was sent and what is allowed
};

// The machine-readable half of an error.
struct ErrorInfo {
  std::string reason;  // a name of ErrorReason: "INVALID_REQUEST"; empty where the transport failed, not the server
  std::string domain;  // "headlight.v1" for the reasons of ErrorReason
  std::map<std::string, std::string> metadata;
  std::vector<Violation> violations;          // of INVALID_ARGUMENT; the server sends the first 8
  std::optional<absl::Duration> retry_delay;  // when the server asks to be called again; unset: it does not ask
};

// The details of a status that a Client returned; empty where it carries none. Never fails: what cannot be parsed is
// left out.
ErrorInfo DetailsOf(const absl::Status& status);

// A gRPC status with its details as payloads, for callers that use a stub of their own. `trailing` is the trailing
// metadata of the call; its grpc-retry-pushback-ms stands in where no RetryInfo came, and a negative one, which
// forbids a retry, takes RetryInfo away.
absl::Status StatusFromGrpc(const grpc::Status& status,
                            const std::multimap<grpc::string_ref, grpc::string_ref>& trailing = {});

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CPP_ERRORS_H_
