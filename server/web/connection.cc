#include "server/web/connection.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"

namespace headlight {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(100);

// Whether one of the events came; false at the timeout.
bool Poll(int socket, short events, absl::Duration timeout) {
  pollfd waits{socket, events, 0};
  const auto milliseconds = static_cast<int>(std::clamp<std::int64_t>(absl::ToInt64Milliseconds(timeout), 0, 1 << 30));
  return poll(&waits, 1, milliseconds) > 0;
}

void NameOf(int socket, int (*name)(int, sockaddr*, socklen_t*), std::string& ip, int& port) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> service{};
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (name(socket, generic, &size) != 0 || getnameinfo(generic, size, host.data(), host.size(), service.data(),
                                                       service.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return;
  }
  ip = host.data();
  if (!absl::SimpleAtoi(service.data(), &port)) port = 0;
}

}  // namespace

Connection::Connection(int socket, TlsSession tls, const ConnectionLimits& limits, const ConnectionSignals& signals)
    : socket_(socket),
      tls_(std::move(tls)),
      limits_(limits),
      signals_(signals),
      began_(absl::Now()),
      deadline_(began_ + limits.head) {
  fcntl(socket_, F_SETFL, fcntl(socket_, F_GETFL) | O_NONBLOCK);
}

Connection::~Connection() {
  if (tls_ != nullptr && SSL_is_init_finished(tls_.get()) == 1) SSL_shutdown(tls_.get());
  if (closes_) Linger();
  shutdown(socket_, SHUT_RDWR);
  close(socket_);
}

void Connection::Linger() {
  shutdown(socket_, SHUT_WR);
  const absl::Time until = absl::Now() + limits_.linger;
  while (absl::Now() < until && !signals_.ending.load() && !signals_.crowded.load()) {
    if (!Poll(socket_, POLLIN, kLook)) continue;
    if (recv(socket_, buffer_.data(), buffer_.size(), 0) <= 0) return;
  }
}

bool Connection::Handshake() {
  return tls_ == nullptr || WithTls([this] { return SSL_do_handshake(tls_.get()); }) == 1;
}

bool Connection::AwaitRequest() {
  if (begin_ < end_ || (tls_ != nullptr && SSL_pending(tls_.get()) > 0)) return true;
  const absl::Time began = absl::Now();
  const absl::Time until = began + limits_.idle;
  while (absl::Now() < until && !Late(absl::Now() - began)) {
    if (Poll(socket_, POLLIN, kLook)) return true;
  }
  return false;
}

void Connection::BeginRequest() {
  in_head_ = true;
  closes_ = true;  // what follows a head that is none would be read as another
  answering_ = false;
  head_bytes_ = 0;
  began_ = absl::Now();
  deadline_ = began_ + limits_.head;
}

void Connection::HeadIsRead() {
  in_head_ = closes_ = false;
  deadline_ = absl::Now() + limits_.whole;
}

bool Connection::gone() const { return Poll(socket_, POLLRDHUP, absl::ZeroDuration()); }

bool Connection::is_readable() const { return begin_ < end_ || Poll(socket_, POLLIN, limits_.silence); }

bool Connection::is_writable() const { return Poll(socket_, POLLOUT, limits_.silence); }

bool Connection::Late(absl::Duration passed) const {
  return signals_.ending.load() || (signals_.crowded.load() && passed > limits_.crowded);
}

bool Connection::Wait(short events) const {
  const absl::Time until = std::min(deadline_, absl::Now() + limits_.silence);
  while (absl::Now() < until && !(in_head_ && Late(absl::Now() - began_))) {
    if (Poll(socket_, events, std::min(kLook, until - absl::Now()))) return true;
  }
  return false;
}

template <typename Step>
int Connection::WithTls(const Step& step) {
  for (;;) {
    ERR_clear_error();
    const int done = step();
    if (done > 0) return done;
    const int why = SSL_get_error(tls_.get(), done);
    if (why == SSL_ERROR_ZERO_RETURN) return 0;
    const bool waits = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
    if (!waits || !Wait(why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT)) return -1;
  }
}

ssize_t Connection::Receive(char* bytes, size_t size) {
  if (tls_ != nullptr) return WithTls([&] { return SSL_read(tls_.get(), bytes, static_cast<int>(size)); });
  for (;;) {
    const ssize_t got = recv(socket_, bytes, size, 0);
    if (got >= 0 || (errno != EAGAIN && errno != EINTR) || !Wait(POLLIN)) return got;
  }
}

ssize_t Connection::Send(const char* bytes, size_t size) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  size = std::min(size, kPiece);
  if (tls_ != nullptr) return WithTls([&] { return SSL_write(tls_.get(), bytes, static_cast<int>(size)); });
  for (;;) {
    const ssize_t sent = send(socket_, bytes, size, MSG_NOSIGNAL);
    if (sent >= 0 || (errno != EAGAIN && errno != EINTR) || !Wait(POLLOUT)) return sent;
  }
}

ssize_t Connection::read(char* bytes, size_t size) {
  if (absl::Now() > deadline_ || (in_head_ && Late(absl::Now() - began_))) return -1;
  answering_ = false;  // what was written was "100 Continue"
  if (begin_ == end_) {
    const ssize_t got = Receive(buffer_.data(), buffer_.size());
    if (got <= 0) return got;
    begin_ = 0;
    end_ = static_cast<std::size_t>(got);
  }
  const std::size_t taken = std::min(size, end_ - begin_);
  head_bytes_ += static_cast<std::int64_t>(taken);
  if (in_head_ && head_bytes_ > limits_.head_bytes) return -1;
  std::memcpy(bytes, buffer_.data() + begin_, taken);
  begin_ += taken;
  return static_cast<ssize_t>(taken);
}

ssize_t Connection::write(const char* bytes, size_t size) {
  if (!std::exchange(answering_, true)) deadline_ = absl::Now() + limits_.whole;
  for (std::size_t done = 0; done < size;) {
    const ssize_t sent = absl::Now() > deadline_ ? -1 : Send(bytes + done, size - done);
    if (sent <= 0) return -1;
    done += static_cast<std::size_t>(sent);
  }
  return static_cast<ssize_t>(size);
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const { NameOf(socket_, getpeername, ip, port); }

void Connection::get_local_ip_and_port(std::string& ip, int& port) const { NameOf(socket_, getsockname, ip, port); }

}  // namespace headlight
