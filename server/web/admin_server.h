// The administrative HTTP port: metrics and health, apart from the port that serves calls.
#ifndef HEADLIGHT_SERVER_WEB_ADMIN_SERVER_H_
#define HEADLIGHT_SERVER_WEB_ADMIN_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/host_port.h"

namespace httplib {
class Server;
}

namespace headlight {

class Listener;

// What the pages say. All are set, are called from several threads at once and answer without waiting: a probe gives
// up within a second. One that throws is answered with 500.
struct AdminPages {
  std::function<std::string()> metrics;  // text format 0.0.4
  std::function<absl::Status()> live;    // not OK: 503 with the message
  std::function<absl::Status()> ready;   // likewise
  std::function<std::string()> status;   // HTML
};

// Serves GET and HEAD of /metrics, /livez, /readyz, /statusz and /, an index; anything else is 404. One request per
// connection, so that an idle client does not keep one of the few threads. Ignores SIGPIPE for the whole process.
// Thread-safe.
class AdminServer {
 public:
  // Listens before it returns; port 0 takes a free one.
  // Errors: UNAVAILABLE with the cause in its message, as a port in use; RESOURCE_EXHAUSTED without memory or threads.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const HostPort& address, AdminPages pages);

  // Stops.
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // The real one.
  int port() const;

  // Closes the port and waits for answers under way, a few seconds at most. Idempotent; not for a page to call.
  void Stop();

 private:
  explicit AdminServer(std::unique_ptr<httplib::Server> http);

  const std::unique_ptr<httplib::Server> http_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_ADMIN_SERVER_H_
