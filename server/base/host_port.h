// "HOST:PORT", as flags and tools take it.
#ifndef HEADLIGHT_SERVER_BASE_HOST_PORT_H_
#define HEADLIGHT_SERVER_BASE_HOST_PORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace headlight {

struct HostPort {
  std::string host;  // IPv4 address, IPv6 address without brackets, or host name; never empty
  int port = 0;      // 0..65535; 0: any free one
};

// Reads "127.0.0.1:9090", "[::1]:9090" or "localhost:9090". Names are not looked up.
// Errors: INVALID_ARGUMENT for everything else, with a message that says what is expected.
absl::StatusOr<HostPort> ParseHostPort(absl::string_view text);

// The inverse of ParseHostPort: an IPv6 address gets its brackets.
std::string ToString(const HostPort& address);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BASE_HOST_PORT_H_
