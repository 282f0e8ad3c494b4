#include "server/web/admin_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace headlight {
namespace {

// A client's end of a connection to the loopback interface.
class Connection {
 public:
  Connection(int port, int family) : socket_(::socket(family, SOCK_STREAM, 0)) {
    if (socket_ < 0) std::abort();
    const timeval patience{10, 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (family == AF_INET) {
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(static_cast<std::uint16_t>(port));
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      connected_ = connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
    } else {
      sockaddr_in6 to{};
      to.sin6_family = AF_INET6;
      to.sin6_port = htons(static_cast<std::uint16_t>(port));
      to.sin6_addr = in6addr_loopback;
      connected_ = connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
    }
  }
  ~Connection() { close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool connected() const { return connected_; }
  int descriptor() const { return socket_; }

  void Send(const std::string& text) const { (void)!send(socket_, text.data(), text.size(), MSG_NOSIGNAL); }

  // All until the server closes.
  std::string ReadAll() const {
    std::string all;
    char buffer[4096];
    for (ssize_t n = 0; (n = recv(socket_, buffer, sizeof(buffer), 0)) > 0;)
      all.append(buffer, static_cast<std::size_t>(n));
    return all;
  }

 private:
  int socket_;
  bool connected_ = false;
};

struct Reply {
  int code = 0;
  std::string head;
  std::string body;
};

Reply Ask(int port, const std::string& request_line, const std::string& headers = "", int family = AF_INET) {
  const Connection connection(port, family);
  if (!connection.connected()) return {};
  connection.Send(request_line + " HTTP/1.1\r\nHost: test\r\n" + headers + "\r\n");
  const std::string all = connection.ReadAll();
  const std::size_t end = all.find("\r\n\r\n");
  if (all.size() < 12 || end == std::string::npos) return {};
  return {std::stoi(all.substr(9, 3)), all.substr(0, end + 2), all.substr(end + 4)};
}

AdminPages Pages() {
  return {.metrics = [] { return std::string("a_total 1\n"); },
          .live = [] { return absl::OkStatus(); },
          .ready = [] { return absl::OkStatus(); },
          .status = [] { return std::string("<p>well</p>"); }};
}

std::unique_ptr<AdminServer> Serve(AdminPages pages, const std::string& host = "127.0.0.1") {
  absl::StatusOr<std::unique_ptr<AdminServer>> server = AdminServer::Start({host, 0}, std::move(pages));
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(AdminServer, ServesMetrics) {
  const auto server = Serve(Pages());
  const Reply reply = Ask(server->port(), "GET /metrics");
  EXPECT_EQ(reply.code, 200);
  EXPECT_EQ(reply.body, "a_total 1\n");
  EXPECT_TRUE(Has(reply.head, "Content-Type: text/plain; version=0.0.4\r\n")) << reply.head;
  EXPECT_TRUE(Has(reply.head, "X-Content-Type-Options: nosniff\r\n")) << reply.head;
  EXPECT_TRUE(Has(reply.head, "Cache-Control: no-store\r\n")) << reply.head;
  EXPECT_TRUE(Has(reply.head, "Connection: close\r\n")) << reply.head;
}

TEST(AdminServer, ServesHealth) {
  std::atomic<bool> well{true};
  AdminPages pages = Pages();
  pages.live = [&] { return well ? absl::OkStatus() : absl::InternalError("workers stand still"); };
  pages.ready = [&] { return well ? absl::OkStatus() : absl::UnavailableError("warming up\r\nInjected: yes"); };
  const auto server = Serve(std::move(pages));
  for (const char* path : {"GET /livez", "GET /readyz"}) {
    const Reply reply = Ask(server->port(), path);
    EXPECT_EQ(reply.code, 200);
    EXPECT_EQ(reply.body, "ok\n");
  }
  well = false;
  const Reply live = Ask(server->port(), "GET /livez");
  EXPECT_EQ(live.code, 503);
  EXPECT_EQ(live.body, "workers stand still\n");
  const Reply ready = Ask(server->port(), "GET /readyz?verbose");
  EXPECT_EQ(ready.code, 503);
  EXPECT_EQ(ready.body, "warming up  Injected: yes\n");
}

TEST(AdminServer, ListsItsPaths) {
  const auto server = Serve(Pages());
  const Reply reply = Ask(server->port(), "GET /");
  EXPECT_EQ(reply.code, 200);
  for (const char* path : {"/metrics", "/livez", "/readyz", "/statusz"}) {
    EXPECT_TRUE(Has(reply.body, path)) << reply.body;
  }
}

TEST(AdminServer, ServesThePageForPeople) {
  const auto server = Serve(Pages());
  const Reply reply = Ask(server->port(), "GET /statusz");
  EXPECT_EQ(reply.code, 200);
  EXPECT_EQ(reply.body, "<p>well</p>");
  EXPECT_TRUE(Has(reply.head, "Content-Type: text/html; charset=utf-8\r\n")) << reply.head;
  EXPECT_TRUE(Has(reply.head, "Content-Security-Policy: default-src 'none'; ")) << reply.head;
}

TEST(AdminServer, AnswersHeadWithoutABody) {
  const auto server = Serve(Pages());
  const Reply reply = Ask(server->port(), "HEAD /metrics");
  EXPECT_EQ(reply.code, 200);
  EXPECT_EQ(reply.body, "");
}

TEST(AdminServer, NothingElseIsFound) {
  const auto server = Serve(Pages());
  for (const char* line :
       {"GET /nothing", "GET /metrics/", "GET /../etc/passwd", "POST /metrics", "DELETE /", "OPTIONS /"}) {
    EXPECT_EQ(Ask(server->port(), line).code, 404) << line;
  }
}

TEST(AdminServer, SurvivesHostileRequests) {
  const auto server = Serve(Pages());
  std::string ranges = "Range: bytes=0-";
  while (ranges.size() < 8000) ranges += ",0-";
  const Reply reply = Ask(server->port(), "GET /metrics", ranges + "\r\n");
  EXPECT_EQ(reply.code, 416);
  EXPECT_EQ(reply.body, "");
  EXPECT_NE(Ask(server->port(), "nonsense").code, 200);
  EXPECT_NE(Ask(server->port(), "GET /" + std::string(100000, 'x')).code, 200);
  EXPECT_NE(Ask(server->port(), "GET /metrics", "X: " + std::string(100000, 'x') + "\r\n").code, 200);
  EXPECT_EQ(Ask(server->port(), "POST /metrics", "Content-Length: 99999999999\r\n").code, 404);
  EXPECT_EQ(Ask(server->port(), "GET /livez").code, 200);
}

TEST(AdminServer, APageThatThrowsTellsNothing) {
  AdminPages pages = Pages();
  pages.metrics = []() -> std::string { throw std::runtime_error("secret"); };
  // NOLINTNEXTLINE(bugprone-std-exception-baseclass): whatever it throws.
  pages.ready = []() -> absl::Status { throw 42; };
  const auto server = Serve(std::move(pages));
  const Reply metrics = Ask(server->port(), "GET /metrics");
  EXPECT_EQ(metrics.code, 500);
  EXPECT_FALSE(Has(metrics.head + metrics.body, "secret"));
  EXPECT_EQ(Ask(server->port(), "GET /readyz").code, 500);
  EXPECT_EQ(Ask(server->port(), "GET /livez").code, 200);
}

TEST(AdminServer, ServesIPv6) {
  absl::StatusOr<std::unique_ptr<AdminServer>> server = AdminServer::Start({"::1", 0}, Pages());
  if (!server.ok()) GTEST_SKIP() << "no IPv6 loopback: " << server.status();
  EXPECT_EQ(Ask((*server)->port(), "GET /livez", "", AF_INET6).code, 200);
}

TEST(AdminServer, TakesTheGivenPort) {
  const int port = Serve(Pages())->port();
  const auto server = AdminServer::Start({"127.0.0.1", port}, Pages());
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->port(), port);
  EXPECT_EQ(Ask(port, "GET /livez").code, 200);
}

TEST(AdminServer, RefusesAPortInUse) {
  const auto first = Serve(Pages());
  const HostPort taken{"127.0.0.1", first->port()};
  const absl::Status status = AdminServer::Start(taken, Pages()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Has(std::string(status.message()), ToString(taken) + ": Address already in use")) << status;
  EXPECT_EQ(Ask(first->port(), "GET /livez").code, 200);
}

TEST(AdminServer, RefusesWhatItCannotBind) {
  for (const char* host : {"192.0.2.1", "no-such-host.invalid"}) {
    const absl::Status status = AdminServer::Start({host, 0}, Pages()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_TRUE(Has(std::string(status.message()), host)) << status;
  }
}

TEST(AdminServer, StopsMoreThanOnceAndClosesThePort) {
  const auto server = Serve(Pages());
  const int port = server->port();
  server->Stop();
  server->Stop();
  EXPECT_FALSE(Connection(port, AF_INET).connected());
}

TEST(AdminServer, StopsAtOnceAfterStarting) {
  for (int i = 0; i < 50; ++i) Serve(Pages())->Stop();
}

TEST(AdminServer, StopWaitsForAnAnswerUnderWay) {
  std::atomic<bool> entered{false};
  AdminPages pages = Pages();
  pages.metrics = [&] {
    entered = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return std::string("late\n");
  };
  const auto server = Serve(std::move(pages));
  Reply reply;
  std::thread client([&] { reply = Ask(server->port(), "GET /metrics"); });
  while (!entered) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  server->Stop();
  client.join();
  EXPECT_EQ(reply.body, "late\n");
}

TEST(AdminServer, IdleConnectionsDelayNeitherProbesNorTheStopForLong) {
  const auto server = Serve(Pages());
  std::vector<std::unique_ptr<Connection>> idle;
  for (int i = 0; i < 4; ++i) idle.push_back(std::make_unique<Connection>(server->port(), AF_INET));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Ask(server->port(), "GET /livez").code, 200);
  idle.push_back(std::make_unique<Connection>(server->port(), AF_INET));
  idle.back()->Send("GET /me");
  server->Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

// Where the library were built on select(), descriptors from FD_SETSIZE on would be refused, and with many calls open
// the probes would fail.
TEST(AdminServer, AnswersWithManyDescriptorsOpen) {
  rlimit files;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  const rlimit before = files;
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4096);
  if (files.rlim_cur < 1200 || setrlimit(RLIMIT_NOFILE, &files) != 0) GTEST_SKIP() << "too few descriptors allowed";
  const auto server = Serve(Pages());
  std::vector<int> open;
  while (open.empty() || open.back() < FD_SETSIZE) {
    open.push_back(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_GE(open.back(), 0);
  }
  EXPECT_EQ(Ask(server->port(), "GET /livez").code, 200);
  for (const int descriptor : open) close(descriptor);
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST(AdminServer, AnswersManyAtOnce) {
  const auto server = Serve(Pages());
  std::atomic<int> answered{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&] {
      for (int i = 0; i < 20; ++i) answered += Ask(server->port(), "GET /metrics").code == 200 ? 1 : 0;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(answered, 160);
}

}  // namespace
}  // namespace headlight
