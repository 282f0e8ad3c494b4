// The server that Connect's own conformance suite calls: its service over gRPC, and our web port before it. Reads a
// request of the suite on standard input and answers on standard output, each behind four bytes that say its length.
#include <arpa/inet.h>
#include <connectrpc/conformance/v1/server_compat.pb.h>
#include <connectrpc/conformance/v1/service.grpc.pb.h>
#include <google/rpc/error_details.pb.h>
#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/web/web_server.h"

namespace headlight {
namespace {

namespace suite = connectrpc::conformance::v1;
using RequestInfo = suite::ConformancePayload::RequestInfo;

void AddHeaders(const grpc::CallbackServerContext& context, RequestInfo* info) {
  std::string last;
  for (const auto& [key, value] : context.client_metadata()) {
    const std::string name(key.data(), key.size());
    std::string text(value.data(), value.size());
    if (absl::EndsWith(name, "-bin")) text = absl::Base64Escape(text);
    if (name != last) info->add_request_headers()->set_name(name);
    info->mutable_request_headers()->rbegin()->add_value(text);
    last = name;
  }
}

std::string Sent(const std::string& name, const std::string& value) {
  std::string bytes = value;
  if (absl::EndsWith(name, "-bin")) absl::Base64Unescape(value, &bytes);
  return bytes;
}

class ConformanceService final : public suite::ConformanceService::CallbackService {
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, const suite::UnaryRequest* request,
                                  suite::UnaryResponse* response) override {
    return Answer(context, *request, response->mutable_payload());
  }
  grpc::ServerUnaryReactor* IdempotentUnary(grpc::CallbackServerContext* context,
                                            const suite::IdempotentUnaryRequest* request,
                                            suite::IdempotentUnaryResponse* response) override {
    return Answer(context, *request, response->mutable_payload());
  }

  template <typename Request>
  static grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const Request& request,
                                          suite::ConformancePayload* payload) {
    RequestInfo info;
    AddHeaders(*context, &info);
    info.add_requests()->PackFrom(request);
    if (context->deadline() != std::chrono::system_clock::time_point::max()) {
      info.set_timeout_ms(absl::ToInt64Milliseconds(absl::FromChrono(context->deadline()) - absl::Now()));
    }
    const suite::UnaryResponseDefinition& wanted = request.response_definition();
    for (const auto& header : wanted.response_headers()) {
      for (const auto& value : header.value()) context->AddInitialMetadata(header.name(), Sent(header.name(), value));
    }
    for (const auto& trailer : wanted.response_trailers()) {
      for (const auto& value : trailer.value())
        context->AddTrailingMetadata(trailer.name(), Sent(trailer.name(), value));
    }
    grpc::Status end;
    if (wanted.has_error()) {
      google::rpc::Status status;
      status.set_code(wanted.error().code());
      status.set_message(wanted.error().message());
      for (const auto& detail : wanted.error().details()) *status.add_details() = detail;
      status.add_details()->PackFrom(info);
      end = {static_cast<grpc::StatusCode>(status.code()), status.message(), status.SerializeAsString()};
    } else {
      payload->set_data(wanted.response_data());
      *payload->mutable_request_info() = std::move(info);
    }
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    auto* alarm = new grpc::Alarm;
    alarm->Set(absl::ToChronoTime(absl::Now() + absl::Milliseconds(wanted.response_delay_ms())),
               [alarm, reactor, end](bool /*in_time*/) {
                 reactor->Finish(end);
                 delete alarm;
               });
    return reactor;
  }
};

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

// From files, as the server has it.
std::unique_ptr<Reloaded<TlsIdentity>> IdentityFrom(const suite::ServerCompatRequest& request) {
  const auto folder = std::filesystem::temp_directory_path() / absl::StrCat("headlight-connect-", getpid());
  std::filesystem::create_directories(folder);
  std::vector<std::string> paths;
  const auto write = [&](const char* name, const std::string& bytes) {
    paths.push_back((folder / name).string());
    std::ofstream(paths.back()) << bytes;
  };
  write("certificate", request.server_creds().cert());
  write("key", request.server_creds().key());
  if (!request.client_tls_cert().empty()) write("roots", request.client_tls_cert());
  auto identity = Reloaded<TlsIdentity>::Load(paths, MakeTlsIdentity);
  std::filesystem::remove_all(folder);
  return *std::move(identity);
}

int Main() {
  const suite::ServerCompatRequest request = ReadRequest();
  ConformanceService service;
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  builder.SetMaxReceiveMessageSize(-1);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  ConnectLimits limits;
  if (request.message_receive_limit() > 0) {
    limits.message_bytes = request.message_receive_limit();
    limits.json_bytes = request.message_receive_limit();
  }
  auto gateway = std::make_unique<ConnectGateway>(
      server->InProcessChannel(arguments), std::vector<std::string>{"connectrpc.conformance.v1.ConformanceService"},
      limits);
  WebOptions options;
  options.address = {"127.0.0.1", 0};
  std::unique_ptr<Reloaded<TlsIdentity>> identity;
  suite::ServerCompatResponse response;
  if (request.use_tls()) {
    identity = IdentityFrom(request);
    options.identity = identity.get();
    response.set_pem_cert(request.server_creds().cert());
  }
  const auto web = WebServer::Start(std::move(options), std::move(gateway));
  if (!web.ok()) {
    std::cerr << web.status() << "\n";
    return 1;
  }
  response.set_host("127.0.0.1");
  response.set_port(static_cast<std::uint32_t>((*web)->port()));
  Write(response);
  server->Wait();  // the suite ends the process
  return 0;
}

}  // namespace
}  // namespace headlight

int main() { return headlight::Main(); }
