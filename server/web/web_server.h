// The port for browsers and for everybody who has HTTP and no gRPC: the explorer, and calls by the Connect protocol.
#ifndef HEADLIGHT_SERVER_WEB_WEB_SERVER_H_
#define HEADLIGHT_SERVER_WEB_WEB_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/host_port.h"
#include "server/security/reloaded.h"
#include "server/security/tls_identity.h"
#include "server/web/connect.h"
#include "server/web/origins.h"

namespace headlight {

class Listener;

struct WebOptions {
  HostPort address;
  OriginRules origins;                              // its scheme is set by Start
  const Reloaded<TlsIdentity>* identity = nullptr;  // null: without TLS; outlives the server
  std::string root;                                 // folder of the explorer's files; empty: those of the program
  int connections = 128;                            // at once; more wait to be taken
};

// Serves the explorer's files to GET and HEAD, and calls to POST. What comes from a page of a stranger is 403, whatever
// it asks for. Ignores SIGPIPE for the whole process. Thread-safe.
class WebServer {
 public:
  // Listens before it returns; port 0 takes a free one. Errors: as AdminServer::Start.
  static absl::StatusOr<std::unique_ptr<WebServer>> Start(WebOptions options, std::unique_ptr<ConnectGateway> gateway);

  // Stops.
  ~WebServer();
  WebServer(const WebServer&) = delete;
  WebServer& operator=(const WebServer&) = delete;

  // The real one.
  int port() const;

  // Closes the port, and connections once their answer has been written. Idempotent.
  void Stop();

 private:
  class Http;

  explicit WebServer(std::unique_ptr<Http> http);

  const std::unique_ptr<Http> http_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_WEB_SERVER_H_
