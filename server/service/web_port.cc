#include "server/service/web_port.h"

#include <arpa/inet.h>
#include <grpcpp/support/channel_arguments.h>

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

bool IsLoopback(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

std::vector<std::string> InLowerCase(std::vector<std::string> names) {
  for (std::string& name : names) absl::AsciiStrToLower(&name);
  return names;
}

std::shared_ptr<grpc::Channel> ChannelTo(grpc::Server& server) {
  grpc::ChannelArguments arguments;
  // The server bounds what it takes and what it answers; a call that it refused is for the caller to try again.
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return server.InProcessChannel(arguments);
}

}  // namespace

absl::StatusOr<std::unique_ptr<WebServer>> StartWebPort(const ServerOptions& options, const Transport& transport,
                                                        grpc::Server& server) {
  const absl::StatusOr<HostPort> address = ParseHostPort(options.web);
  if (!address.ok()) return absl::InvalidArgumentError(absl::StrCat("--web: ", address.status().message()));
  if (transport.door().asks() && transport.identity() == nullptr && !IsLoopback(address->host)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--web: ", options.web,
                     " would have tokens sent without TLS; give --tls-certificate and --tls-key, "
                     "or a loopback address"));
  }
  WebOptions web;
  web.address = *address;
  web.origins.hosts = InLowerCase(options.web_hosts);
  web.origins.origins = InLowerCase(options.web_origins);
  web.identity = transport.identity();
  web.root = options.web_root;
  ConnectLimits limits;
  limits.message_bytes = options.limits.max_receive_bytes;
  limits.held_bytes = options.limits.grpc_memory_bytes;
  auto gateway = std::make_unique<ConnectGateway>(
      ChannelTo(server),
      std::vector<std::string>{"headlight.v1.AttentionService", "headlight.v1.LayerService",
                               "headlight.v1.AnalysisService"},
      limits);
  absl::StatusOr<std::unique_ptr<WebServer>> started = WebServer::Start(std::move(web), std::move(gateway));
  if (started.ok()) return started;
  return absl::Status(started.status().code(), absl::StrCat("--web: ", started.status().message()));
}

}  // namespace headlight
