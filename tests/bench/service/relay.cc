#include "tests/bench/service/relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <system_error>
#include <utility>

namespace headlight::bench {
namespace {

int Checked(int result) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), "the relay");
  return result;
}

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool SendAll(int to, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t sent = send(to, data, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data += sent;
    size -= static_cast<std::size_t>(sent);
  }
  return true;
}

}  // namespace

Relay::Relay(const std::string& target, std::int64_t bytes_per_second)
    : target_(target), bytes_per_second_(bytes_per_second) {
  listener_ = Checked(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = Loopback(0);
  Checked(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
  Checked(listen(listener_, 8));
  socklen_t size = sizeof(address);
  Checked(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size));
  address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  Start(std::thread([this] { Accept(); }));
}

Relay::~Relay() {
  ends_ = true;
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    shutdown(listener_, SHUT_RDWR);
    for (const int socket : sockets_) shutdown(socket, SHUT_RDWR);
    threads = std::move(threads_);
  }
  for (std::thread& thread : threads) thread.join();
  for (const int socket : sockets_) close(socket);
  close(listener_);
}

void Relay::Start(std::thread thread) {
  const std::lock_guard lock(mutex_);
  threads_.push_back(std::move(thread));
}

void Relay::Accept() {
  while (!ends_) {
    const int client = accept(listener_, nullptr, nullptr);
    if (client < 0) return;
    const int server = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = Loopback(std::stoi(target_.substr(target_.rfind(':') + 1)));
    if (connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) shutdown(client, SHUT_RDWR);
    const int on = 1;
    for (const int one : {client, server}) setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    {
      const std::lock_guard lock(mutex_);
      sockets_.insert(sockets_.end(), {client, server});
    }
    if (ends_) return;
    Start(std::thread([this, client, server] { Pass(client, server); }));
    Start(std::thread([this, client, server] { Pass(server, client); }));
  }
}

// What came late may be made up for within some milliseconds, so that a thread that slept too long costs no bandwidth.
void Relay::Pass(int from, int to) const {
  using Clock = std::chrono::steady_clock;
  constexpr auto kMostDebt = std::chrono::milliseconds(5);
  std::vector<char> buffer(std::size_t{128} << 10);
  Clock::time_point free = Clock::now();
  for (;;) {
    const ssize_t came = recv(from, buffer.data(), buffer.size(), 0);
    if (came <= 0 || !SendAll(to, buffer.data(), static_cast<std::size_t>(came))) break;
    free =
        std::max(free, Clock::now() - kMostDebt) + std::chrono::nanoseconds(came * 1'000'000'000 / bytes_per_second_);
    std::this_thread::sleep_until(free);
  }
  shutdown(to, SHUT_WR);
}

}  // namespace headlight::bench
