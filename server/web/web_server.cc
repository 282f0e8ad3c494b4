#include "server/web/web_server.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/web/bounded_threads.h"
#include "server/web/connect_error.h"
#include "server/web/connect_metadata.h"
#include "server/web/connection.h"
#include "server/web/explorer.h"
#include "server/web/framing.h"
#include "server/web/listen.h"

namespace headlight {
namespace {

using httplib::Request;
using httplib::Response;

// The page has scripts, styles and pictures of its own and calls its own server; nothing from elsewhere.
constexpr char kPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
constexpr char kExposed[] = "grpc-retry-pushback-ms, retry-after, x-request-id";
constexpr std::int64_t kMostPreflight = 7200;  // seconds that a browser may remember it

// The connection that this thread serves.
thread_local Connection* current = nullptr;

// Newer versions of the library keep headers of one name in an order that is turned around.
bool TurnsAround() {
  static const bool turns = [] {
    httplib::Headers headers;
    for (const char* value : {"first", "second"}) headers.emplace("name", value);
    return headers.begin()->second == "second";
  }();
  return turns;
}

ConnectHead HeadOf(const Request& request) {
  ConnectHead head{request.path, {}, -1};
  for (const auto& [name, value] : request.headers) head.headers.emplace_back(absl::AsciiStrToLower(name), value);
  if (TurnsAround()) std::reverse(head.headers.begin(), head.headers.end());
  head.length = FramingOf(head.headers).length;
  return head;
}

void Fill(WebAnswer answer, Response& response) {
  response.status = answer.status;
  if (TurnsAround()) std::reverse(answer.headers.begin(), answer.headers.end());
  for (const auto& [name, value] : answer.headers) response.set_header(name.c_str(), value);
  if (!answer.type.empty()) response.set_header("Content-Type", answer.type);
  response.body = std::move(answer.body);
}

WebAnswer Text(int status, std::string text) { return {status, "text/plain; charset=utf-8", {}, std::move(text)}; }

bool Reads(const Request& request) { return request.method == "GET" || request.method == "HEAD"; }

}  // namespace

// The library's server, of whose routing only that of bodies is used: what comes before one is decided first.
class WebServer::Http final : public httplib::Server {
 public:
  Http(WebOptions options, std::unique_ptr<ConnectGateway> gateway)
      : options_(std::move(options)), gateway_(std::move(gateway)), explorer_(options_.root) {
    if (options_.identity != nullptr) tls_.emplace(*options_.identity);
    options_.origins.scheme = tls_.has_value() ? "https" : "http";
    new_task_queue = [this] { return new BoundedThreads(options_.connections, &signals_.crowded); };
    set_keep_alive_timeout(absl::ToInt64Seconds(ConnectionLimits().idle));  // what answers say
    set_payload_max_length(std::size_t{1} << 40);                           // bodies are bounded as they are read
    set_default_headers({{"X-Content-Type-Options", "nosniff"},
                         {"Referrer-Policy", "no-referrer"},
                         {"Cross-Origin-Resource-Policy", "same-origin"},
                         {"Cache-Control", "no-store"}});
    // Before it is told to send a body, a client is told that it need not.
    set_expect_100_continue_handler([this](const Request& request, Response& response) {
      return Decide(request, response) ? response.status : 100;
    });
    set_pre_routing_handler([this](const Request& request, Response& response) {
      return Decide(request, response) ? HandlerResponse::Handled : HandlerResponse::Unhandled;
    });
    set_exception_handler([](const Request&, Response& response, const std::exception_ptr&) {
      current->CloseAfterwards();
      Fill(ConnectError(grpc::StatusCode::INTERNAL, "internal error"), response);
    });
    Post("/.*", [this](const Request& request, Response& response, const httplib::ContentReader& body) {
      Answer(request, response, body);
    });
  }

  const WebOptions& options() const { return options_; }
  // No connection takes another request.
  void End() { signals_.ending = true; }

 private:
  bool process_and_close_socket(socket_t socket) override {
    TlsSession session = tls_.has_value() ? tls_->Begin(socket) : nullptr;
    const bool lacks_tls = tls_.has_value() && session == nullptr;
    Connection connection(socket, std::move(session), ConnectionLimits(), signals_);
    if (lacks_tls || !connection.Handshake()) return false;
    current = &connection;
    bool goes_on = true;
    while (goes_on && connection.AwaitRequest()) {
      connection.BeginRequest();
      bool closed = false;
      goes_on = Process(*this, connection, closed) && !closed && !connection.closes();
    }
    return goes_on;
  }

  // The library's own reading of one request, whose form depends on its version.
  template <typename Self>
  static bool Process(Self& self, Connection& connection, bool& closed) {
    const std::function<void(Request&)> ready = [&connection](Request& request) {
      connection.HeadIsRead();
      // The library would compress answers and repeat them once for each range asked for.
      request.headers.erase("Accept-Encoding");
      request.headers.erase("Range");
      request.ranges.clear();
      Target target = SplitTarget(request.path);
      request.path = std::move(target.path);
      if (target.host.empty() || request.headers.count("Host") > 1) return;  // two are refused
      request.headers.erase("Host");
      request.headers.emplace("Host", std::move(target.host));
    };
    if constexpr (requires { self.process_request(connection, false, closed, ready); }) {
      return self.process_request(connection, false, closed, ready);
    } else {
      std::string peer, own;
      int peer_port = 0, own_port = 0;
      connection.get_remote_ip_and_port(peer, peer_port);
      connection.get_local_ip_and_port(own, own_port);
      return self.process_request(connection, peer, peer_port, own, own_port, false, closed, ready);
    }
  }

  // Answers what needs no body. False: the body is to be read.
  bool Decide(const Request& request, Response& response) {
    const ConnectHead head = HeadOf(request);
    const Framing framing = FramingOf(head.headers);
    if (framing.status != 200) {
      CloseAfter(request, response);
      Fill(Text(framing.status, framing.reason + "\n"), response);
      return true;
    }
    const WebSource source{std::string(HeaderIn(head.headers, "host")), std::string(HeaderIn(head.headers, "origin")),
                           std::string(HeaderIn(head.headers, "sec-fetch-site")),
                           std::string(HeaderIn(head.headers, "sec-fetch-mode"))};
    const bool calls = gateway_->Has(request.path);
    std::optional<WebFile> file;
    if (!calls) file = explorer_.Find(request.path);
    const Provenance from = Judge(source, options_.origins, file.has_value() && Reads(request));
    response.set_header("Vary", "Origin");
    if (from == Provenance::kListed) AllowOrigin(source.origin, response);
    std::optional<WebAnswer> answer = Refuse(from);
    if (!answer.has_value()) answer = calls ? BeforeCall(request, head) : Page(request, file);
    // The library would wait for the end of the connection to know that there is no body.
    if (!answer.has_value() && !framing.has_body()) answer = Call(head, "", gateway_->Hold());
    if (!answer.has_value()) return false;
    // What of the body has come stays unread.
    if (framing.has_body()) CloseAfter(request, response);
    Fill(*std::move(answer), response);
    return true;
  }

  static void CloseAfter(const Request& request, Response& response) {
    current->CloseAfterwards();
    // Where the client asks for it, the library says it by itself.
    if (request.get_header_value("Connection") != "close") response.set_header("Connection", "close");
  }

  WebAnswer Call(const ConnectHead& head, std::string body, HeldBytes held) const {
    return gateway_->Call(head, std::move(body), held, [connection = current] { return connection->gone(); });
  }

  static void AllowOrigin(const std::string& origin, Response& response) {
    response.set_header("Access-Control-Allow-Origin", origin);
    response.set_header("Access-Control-Expose-Headers", kExposed);
    response.headers.erase("Cross-Origin-Resource-Policy");
  }

  static std::optional<WebAnswer> Refuse(Provenance from) {
    if (from == Provenance::kStrangeHost) {
      return Text(403, "this server is not called by that name; --web-hosts lists names that it answers to\n");
    }
    if (from == Provenance::kStrangePage) {
      return Text(403, "pages of other origins may not call; --web-origins lists those that may\n");
    }
    return std::nullopt;
  }

  std::optional<WebAnswer> BeforeCall(const Request& request, const ConnectHead& head) const {
    if (request.method == "OPTIONS") return Preflight();
    if (request.method != "POST") return WebAnswer{405, "", {{"allow", "POST"}}, ""};
    return gateway_->Refuse(head);
  }

  static WebAnswer Page(const Request& request, const std::optional<WebFile>& file) {
    if (!file.has_value()) return Text(404, "not found\n");
    if (!Reads(request)) return {405, "", {{"allow", "GET, HEAD"}}, ""};
    return {200, file->type, {{"content-security-policy", kPolicy}}, file->bytes};
  }

  static WebAnswer Preflight() {
    return {204,
            "",
            {{"access-control-allow-methods", "POST"},
             {"access-control-allow-headers",
              "authorization, content-type, connect-protocol-version, connect-timeout-ms, traceparent, x-request-id"},
             {"access-control-max-age", absl::StrCat(kMostPreflight)}},
            ""};
  }

  void Answer(const Request& request, Response& response, const httplib::ContentReader& read) {
    const ConnectHead head = HeadOf(request);
    HeldBytes held = gateway_->Hold();
    std::string body;
    std::optional<WebAnswer> refusal;
    const bool whole = read([&](const char* bytes, std::size_t size) {
      refusal =
          gateway_->RefuseBody(head, static_cast<std::int64_t>(body.size()), static_cast<std::int64_t>(size), held);
      if (refusal.has_value()) return false;
      body.append(bytes, size);
      return true;
    });
    if (!whole) {
      CloseAfter(request, response);
      if (!refusal.has_value()) refusal = ConnectError(grpc::StatusCode::INVALID_ARGUMENT, "the body is cut off");
      return Fill(*std::move(refusal), response);
    }
    Fill(Call(head, std::move(body), std::move(held)), response);
  }

  WebOptions options_;
  const std::unique_ptr<ConnectGateway> gateway_;
  const Explorer explorer_;
  std::optional<TlsSessions> tls_;
  ConnectionSignals signals_;
};

WebServer::WebServer(std::unique_ptr<Http> http) : http_(std::move(http)) {}

WebServer::~WebServer() { Stop(); }

absl::StatusOr<std::unique_ptr<WebServer>> WebServer::Start(WebOptions options,
                                                            std::unique_ptr<ConnectGateway> gateway) try {
  std::unique_ptr<WebServer> server(new WebServer(std::make_unique<Http>(std::move(options), std::move(gateway))));
  absl::StatusOr<std::unique_ptr<Listener>> listener =
      Listener::Start(server->http_->options().address, *server->http_);
  if (!listener.ok()) return listener.status();
  server->listener_ = *std::move(listener);
  return server;
} catch (const std::exception& error) {
  return absl::ResourceExhaustedError(absl::StrCat("cannot start the web server: ", error.what()));
}

int WebServer::port() const { return listener_->port(); }

void WebServer::Stop() {
  http_->End();
  if (listener_ != nullptr) listener_->Stop();
}

}  // namespace headlight
