// Listening as both HTTP servers do.
#ifndef HEADLIGHT_SERVER_WEB_LISTEN_H_
#define HEADLIGHT_SERVER_WEB_LISTEN_H_

#include <httplib.h>

#include "absl/status/statusor.h"
#include "server/base/host_port.h"

namespace headlight {

// Has `http` listen, and returns the port; of 0 a free one. No second server may share it, and many clients may wait to
// be taken. Errors: UNAVAILABLE with the cause, as a port in use.
absl::StatusOr<int> BindTo(const HostPort& address, httplib::Server& http);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_LISTEN_H_
