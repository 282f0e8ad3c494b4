#include "server/web/listen.h"

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

constexpr int kWaitingConnections = 512;

// The library's default, SO_REUSEPORT, would let a second server share the port without a word.
void SetSocketOptions(socket_t socket) {
  const int yes = 1;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

absl::Status CannotListen(const HostPort& address, int error) {
  // Where a name is not found, errno says nothing of use.
  const bool told = error == EADDRINUSE || error == EADDRNOTAVAIL || error == EACCES || error == EMFILE;
  return absl::UnavailableError(absl::StrCat("cannot listen on ", ToString(address), ": ",
                                             told ? std::strerror(error) : "unknown host or unusable address"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Start(const HostPort& address, httplib::Server& http) {
  socket_t listener = INVALID_SOCKET;
  http.set_socket_options([&listener](socket_t socket) {
    SetSocketOptions(socket);
    listener = socket;
  });
  errno = 0;
  int port = address.port;
  if (port == 0) {
    port = http.bind_to_any_port(address.host);
  } else if (!http.bind_to_port(address.host, port)) {
    port = -1;
  }
  if (port <= 0) return CannotListen(address, errno);
  // The library lets 5 connections wait to be taken: a probe beside a few silent ones would be dropped, and come again
  // only after a second.
  listen(listener, kWaitingConnections);
  http.set_socket_options(SetSocketOptions);
  std::unique_ptr<Listener> started(new Listener(http, port));
  if (!started->Run()) return absl::UnavailableError("listening ended at once");
  return started;
}

bool Listener::Run() {
  absl::MutexLock lock(&mutex_);
  thread_ = std::thread([this] {
    http_.listen_after_bind();
    ended_ = true;
  });
  // A stop before the loop began would be lost, and joining would never end.
  while (!http_.is_running() && !ended_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return !ended_;
}

void Listener::Stop() {
  absl::MutexLock lock(&mutex_);
  if (!thread_.joinable()) return;
  http_.stop();
  thread_.join();
}

}  // namespace headlight
