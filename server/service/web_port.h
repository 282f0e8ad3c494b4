// The web port of the process.
#ifndef HEADLIGHT_SERVER_SERVICE_WEB_PORT_H_
#define HEADLIGHT_SERVER_SERVICE_WEB_PORT_H_

#include <grpcpp/server.h>

#include <memory>

#include "absl/status/statusor.h"
#include "server/service/server.h"
#include "server/service/transport.h"
#include "server/web/web_server.h"

namespace headlight {

// Listens on `options.web`; its calls are calls of `server`, within the process. Both outlive it. With TLS where the
// transport has it. Errors, which name the flag: INVALID_ARGUMENT for what is no address, or one that others reach
// without TLS though callers are asked who they are; those of WebServer::Start.
absl::StatusOr<std::unique_ptr<WebServer>> StartWebPort(const ServerOptions& options, const Transport& transport,
                                                        grpc::Server& server);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_WEB_PORT_H_
