// Bytes of any browser: a connection to the web port, or the JSON of a call. The server answers in HTTP or closes, and
// answers the next one.
#include <arpa/inet.h>
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "headlight/v1/attention_service.grpc.pb.h"
#include "headlight/v1/layer_service.pb.h"
#include "server/web/web_server.h"
#include "tests/fuzz/fuzz.h"

namespace headlight::fuzz {
namespace {

constexpr char kAttend[] = "/headlight.v1.AttentionService/Attend";

// The web port before a service that computes nothing: what comes before a call is what is tried.
class Port {
 public:
  Port() {
    grpc::ServerBuilder builder;
    builder.RegisterService(&service_);
    grpc_ = builder.BuildAndStart();
    WebOptions options;
    options.address = {"127.0.0.1", 0};
    options.connections = 4;
    web_ = *WebServer::Start(
        std::move(options),
        std::make_unique<ConnectGateway>(grpc_->InProcessChannel({}),
                                         std::vector<std::string>{"headlight.v1.AttentionService"}, ConnectLimits()));
  }

  // All that comes back for these bytes. With `no_more` the server sees that nothing follows, which gives up a call.
  std::string Answer(const std::string& bytes, bool no_more) const {
    const int connection = Connect();
    (void)!send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (no_more) shutdown(connection, SHUT_WR);
    std::string answer;
    char buffer[4096];
    ssize_t got = 0;
    do {
      got = recv(connection, buffer, sizeof(buffer), 0);
      if (got > 0) answer.append(buffer, static_cast<std::size_t>(got));
    } while (got > 0 || (got < 0 && errno == EINTR));  // libFuzzer's alarm interrupts
    Expect(got == 0 || errno == ECONNRESET, "the server closes within 20 seconds");
    close(connection);
    return answer;
  }

 private:
  // A new connection that waits at most 20 seconds for bytes.
  int Connect() const {
    const timeval patience{20, 0};
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(web_->port()));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (true) {
      const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (connection >= 0 && connect(connection, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0) {
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        return connection;
      }
      const int why = errno;
      // What libFuzzer's alarm interrupts connects on behind one's back: begin anew.
      Expect(why == EINTR, "the port takes connections", std::generic_category().message(why));
      if (connection >= 0) close(connection);
    }
  }

  v1::AttentionService::CallbackService service_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<WebServer> web_;
};

const Port& ThePort() {
  static const auto& port = *new Port;
  return port;
}

void RunConnection(const std::string& bytes) {
  const std::string answer = ThePort().Answer(bytes, /*no_more=*/true);
  Expect(answer.empty() || absl::StartsWith(answer, "HTTP/1.1 "), "an answer is HTTP", answer);
  const std::string next = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  Expect(absl::StartsWith(ThePort().Answer(next, /*no_more=*/true), "HTTP/1.1 200 "), "the next one is answered");
}

// JSON that is a request reaches the service, which has no Attend; other JSON is told so.
void RunJson(const std::string& json) {
  const std::string answer = ThePort().Answer(
      absl::StrCat("POST ", kAttend, " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n",
                   "Connection: close\r\nContent-Length: ", json.size(), "\r\n\r\n", json),
      /*no_more=*/false);
  Expect(absl::StartsWith(answer, "HTTP/1.1 501 ") || absl::StartsWith(answer, "HTTP/1.1 400 "),
         "JSON is a request or refused", answer);
}

}  // namespace

const google::protobuf::Message& Prototype() { return v1::UploadLayerRequest::default_instance(); }

void Run(const google::protobuf::Message& message) {
  const auto& upload = static_cast<const v1::UploadLayerRequest&>(message);
  RunConnection(upload.chunk());
  RunJson(upload.chunk());
}

}  // namespace headlight::fuzz
