// gRPC as the server sets it up, before a service of a test.
#ifndef HEADLIGHT_TESTS_PROTOCOLS_LISTEN_H_
#define HEADLIGHT_TESTS_PROTOCOLS_LISTEN_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "server/service/transport.h"

namespace headlight {

struct ListeningServer {
  std::unique_ptr<Transport> transport;  // outlives the server
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

// Listens on a free port of the loopback with the server's own settings, credentials and limits; compressed messages
// are taken. Ends the process where that fails. The service outlives what it returns.
ListeningServer ListenAsServer(TransportOptions options, const Limits& limits, grpc::Service* service);

}  // namespace headlight

#endif  // HEADLIGHT_TESTS_PROTOCOLS_LISTEN_H_
