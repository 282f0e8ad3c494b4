#include "tests/protocols/listen.h"

#include <cstdlib>
#include <iostream>
#include <utility>

namespace headlight {

ListeningServer ListenAsServer(TransportOptions options, const Limits& limits, grpc::Service* service) {
  options.compression = true;
  auto transport = Transport::Create(options);
  if (!transport.ok()) {
    std::cerr << transport.status() << "\n";
    std::exit(1);
  }
  ListeningServer listening{*std::move(transport), nullptr, 0};
  grpc::ServerBuilder builder;
  listening.transport->Configure(limits, &builder);
  const std::string address = "127.0.0.1:0";
  builder.AddListeningPort(address, listening.transport->CredentialsFor(address), &listening.port);
  builder.RegisterService(service);
  listening.server = builder.BuildAndStart();
  if (listening.server == nullptr || listening.port == 0) {
    std::cerr << "cannot listen on " << address << "\n";
    std::exit(1);
  }
  return listening;
}

}  // namespace headlight
