#include "server/web/admin_server.h"

#include <httplib.h>

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "server/web/bounded_threads.h"
#include "server/web/listen.h"

namespace headlight {
namespace {

// Silent connections hold a thread each until the read timeout: probes must find one that is free.
constexpr int kThreads = 128;
constexpr time_t kReadMicroseconds = 500'000;
constexpr std::size_t kMostPayloadBytes = 1024;
constexpr char kText[] = "text/plain; charset=utf-8";
constexpr char kIndex[] =
    "Headlight\n"
    "/metrics  Prometheus metrics\n"
    "/livez    200 while the process works\n"
    "/readyz   200 while calls are taken\n"
    "/statusz  what goes on here, for people\n";
// The page has its style within it and nothing else.
constexpr char kPolicy[] = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

void Answer(int code, const std::string& text, const char* type, httplib::Response& response) {
  response.status = code;
  response.set_content(text, type);
}

void AnswerHealth(const absl::Status& health, httplib::Response& response) {
  if (health.ok()) return Answer(200, "ok\n", kText, response);
  const std::string reason = absl::StrReplaceAll(health.message(), {{"\r", " "}, {"\n", " "}});
  Answer(503, reason + "\n", kText, response);
}

void Route(const AdminPages& pages, const httplib::Request& request, httplib::Response& response) {
  const bool reads = request.method == "GET" || request.method == "HEAD";
  // The library would repeat the page once for each range asked for.
  if (!request.ranges.empty()) {
    response.status = 416;
  } else if (reads && request.path == "/metrics") {
    Answer(200, pages.metrics(), "text/plain; version=0.0.4", response);
  } else if (reads && request.path == "/livez") {
    AnswerHealth(pages.live(), response);
  } else if (reads && request.path == "/readyz") {
    AnswerHealth(pages.ready(), response);
  } else if (reads && request.path == "/statusz") {
    response.set_header("Content-Security-Policy", kPolicy);
    Answer(200, pages.status(), "text/html; charset=utf-8", response);
  } else if (reads && request.path == "/") {
    Answer(200, kIndex, kText, response);
  } else {
    Answer(404, "not found\n", kText, response);
  }
}

void Configure(AdminPages pages, httplib::Server& http) {
  http.new_task_queue = [] { return new BoundedThreads(kThreads); };
  http.set_keep_alive_max_count(1);
  http.set_keep_alive_timeout(1);
  http.set_read_timeout(0, kReadMicroseconds);
  http.set_write_timeout(2);
  http.set_payload_max_length(kMostPayloadBytes);
  http.set_default_headers({{"X-Content-Type-Options", "nosniff"}, {"Cache-Control", "no-store"}});
  // Before its routing by regular expressions and its reading of bodies, neither of which is needed.
  http.set_pre_routing_handler(
      [pages = std::move(pages)](const httplib::Request& request, httplib::Response& response) {
        Route(pages, request, response);
        return httplib::Server::HandlerResponse::Handled;
      });
  // The library's default shows the exception's text to the client.
  http.set_exception_handler([](const httplib::Request&, httplib::Response& response, const std::exception_ptr&) {
    Answer(500, "internal error\n", kText, response);
  });
}

}  // namespace

AdminServer::AdminServer(std::unique_ptr<httplib::Server> http) : http_(std::move(http)) {}

AdminServer::~AdminServer() = default;

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const HostPort& address, AdminPages pages) try {
  std::unique_ptr<AdminServer> server(new AdminServer(std::make_unique<httplib::Server>()));
  Configure(std::move(pages), *server->http_);
  absl::StatusOr<std::unique_ptr<Listener>> listener = Listener::Start(address, *server->http_);
  if (!listener.ok()) return listener.status();
  server->listener_ = *std::move(listener);
  return server;
} catch (const std::exception& error) {
  return absl::ResourceExhaustedError(absl::StrCat("cannot start the administrative server: ", error.what()));
}

int AdminServer::port() const { return listener_->port(); }

void AdminServer::Stop() { listener_->Stop(); }

}  // namespace headlight
