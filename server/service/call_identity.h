// By what a call is known in logs and traces, from its metadata.
#ifndef HEADLIGHT_SERVER_SERVICE_CALL_IDENTITY_H_
#define HEADLIGHT_SERVER_SERVICE_CALL_IDENTITY_H_

#include <string>

#include "absl/strings/string_view.h"

namespace headlight {

// `sent`, the metadata "x-request-id", where it is 1 to 128 printable characters of ASCII without spaces; else a new
// one of 16 hexadecimal digits.
std::string RequestIdFrom(absl::string_view sent);

// `sent`, the metadata "traceparent", where it is one of W3C Trace Context, version 00; else empty.
std::string TraceparentFrom(absl::string_view sent);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_CALL_IDENTITY_H_
