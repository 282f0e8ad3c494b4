// The server that Connect's own conformance suite calls, by gRPC as our server sets it up or, for the Connect protocol,
// through our web port. Reads a request of the suite on standard input and answers on standard output, each behind four
// bytes that say its length.
#include <arpa/inet.h>
#include <connectrpc/conformance/v1/server_compat.pb.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/web/web_server.h"
#include "tests/protocols/listen.h"
#include "tests/protocols/suite_service.h"

namespace headlight {
namespace {

namespace suite = connectrpc::conformance::v1;

suite::ServerCompatRequest ReadRequest() {
  std::uint32_t size = 0;
  std::cin.read(reinterpret_cast<char*>(&size), sizeof(size));
  std::string bytes(ntohl(size), '\0');
  std::cin.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  suite::ServerCompatRequest request;
  if (!std::cin || !request.ParseFromString(bytes)) {
    std::cerr << "no request of the suite on standard input\n";
    std::exit(1);
  }
  return request;
}

void Write(const suite::ServerCompatResponse& response) {
  const std::string bytes = response.SerializeAsString();
  const std::uint32_t size = htonl(static_cast<std::uint32_t>(bytes.size()));
  std::cout.write(reinterpret_cast<const char*>(&size), sizeof(size)) << bytes << std::flush;
}

// The certificate of the request in files, as the server has it, while this lives; paths are empty without TLS.
class Files {
 public:
  explicit Files(const suite::ServerCompatRequest& request)
      : folder_(std::filesystem::temp_directory_path() / absl::StrCat("headlight-suite-", getpid())) {
    std::filesystem::create_directories(folder_);
    if (!request.use_tls()) return;
    options_.tls_certificate = Put("certificate", request.server_creds().cert());
    options_.tls_key = Put("key", request.server_creds().key());
    if (!request.client_tls_cert().empty()) options_.tls_client_ca = Put("roots", request.client_tls_cert());
  }
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;
  ~Files() { std::filesystem::remove_all(folder_); }

  const TransportOptions& options() const { return options_; }

 private:
  std::string Put(const char* name, const std::string& bytes) {
    std::ofstream(folder_ / name) << bytes;
    return folder_ / name;
  }

  const std::filesystem::path folder_;
  TransportOptions options_;
};

Limits LimitsOf(const suite::ServerCompatRequest& request) {
  Limits limits;
  if (request.message_receive_limit() > 0) limits.max_receive_bytes = request.message_receive_limit();
  return limits;
}

[[noreturn]] void Serve(const suite::ServerCompatRequest& request, int port, grpc::Server* server) {
  suite::ServerCompatResponse response;
  response.set_host("127.0.0.1");
  response.set_port(static_cast<std::uint32_t>(port));
  if (request.use_tls()) response.set_pem_cert(request.server_creds().cert());
  Write(response);
  server->Wait();  // the suite ends the process
  std::abort();
}

void ServeGrpc(const suite::ServerCompatRequest& request, grpc::Service* service) {
  const ListeningServer listening = [&] {
    const Files files(request);
    return ListenAsServer(files.options(), LimitsOf(request), service);
  }();
  Serve(request, listening.port, listening.server.get());
}

void ServeConnect(const suite::ServerCompatRequest& request, grpc::Service* service) {
  Limits behind;  // the web port is what refuses
  behind.max_receive_bytes = -1;
  const ListeningServer listening = ListenAsServer({}, behind, service);
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  ConnectLimits limits;
  if (request.message_receive_limit() > 0) {
    limits.message_bytes = request.message_receive_limit();
    limits.json_bytes = request.message_receive_limit();
  }
  auto gateway = std::make_unique<ConnectGateway>(
      listening.server->InProcessChannel(arguments),
      std::vector<std::string>{"connectrpc.conformance.v1.ConformanceService"}, limits);
  const std::unique_ptr<Transport> tls = [&] {
    const Files files(request);
    return *Transport::Create(files.options());
  }();
  WebOptions options;
  options.address = {"127.0.0.1", 0};
  options.identity = tls->identity();
  const auto web = WebServer::Start(std::move(options), std::move(gateway));
  if (!web.ok()) {
    std::cerr << web.status() << "\n";
    std::exit(1);
  }
  Serve(request, (*web)->port(), listening.server.get());
}

}  // namespace
}  // namespace headlight

int main() {
  const auto request = headlight::ReadRequest();
  const auto service = headlight::MakeSuiteService();
  const bool connect = request.protocol() == connectrpc::conformance::v1::PROTOCOL_CONNECT;
  (connect ? headlight::ServeConnect : headlight::ServeGrpc)(request, service.get());
}
