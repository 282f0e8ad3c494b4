// A browser's connection as cpp-httplib reads and writes it. The library's own streams know no bound for the time and
// the bytes of a request's head, and do not tell whether the client has gone.
#ifndef HEADLIGHT_SERVER_WEB_CONNECTION_H_
#define HEADLIGHT_SERVER_WEB_CONNECTION_H_

#include <httplib.h>

#include <array>
#include <atomic>
#include <string>

#include "absl/time/time.h"
#include "server/web/tls_sessions.h"

namespace headlight {

// What a connection may take.
struct ConnectionLimits {
  absl::Duration head = absl::Seconds(10);     // of a request's head, and of a TLS handshake
  absl::Duration whole = absl::Seconds(120);   // of its body, and again of its answer
  absl::Duration silence = absl::Seconds(10);  // without a byte, within any of them
  absl::Duration idle = absl::Seconds(15);     // between two requests
  absl::Duration crowded = absl::Seconds(1);   // in place of head and idle, while others wait to be taken
  absl::Duration linger = absl::Seconds(2);    // in which what nobody reads still may come before the end
  std::int64_t head_bytes = std::int64_t{32} << 10;
};

// What all connections of a server hear.
struct ConnectionSignals {
  std::atomic<bool> ending{false};   // no further request is waited for
  std::atomic<bool> crowded{false};  // others wait to be taken
};

// Owns the socket. For one thread, but for gone().
class Connection final : public httplib::Stream {
 public:
  // `tls` null: without. `signals` outlive the connection.
  Connection(int socket, TlsSession tls, const ConnectionLimits& limits, const ConnectionSignals& signals);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // False where TLS cannot be agreed on in time.
  bool Handshake();
  // Waits for the first byte of a request. False: none came in time, or the client has gone.
  bool AwaitRequest();
  // The bounds of what is read from now on: those of a head, until HeadIsRead.
  void BeginRequest();
  void HeadIsRead();

  // No request may follow: something of this one stays unread.
  void CloseAfterwards() { closes_ = true; }
  bool closes() const { return closes_; }

  // Whether the client has closed its side.
  bool gone() const;

  // As httplib::Stream has them: -1, or 0 at the end of what comes.
  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* bytes, size_t size) override;
  ssize_t write(const char* bytes, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  // Not the real one: the library refuses numbers from 1024, for its own use of select.
  socket_t socket() const override { return 0; }

 private:
  // Lets come what is under way: to close with bytes unread would take the answer away from who still sends them.
  void Linger();
  // Whether there is no more time for a head, or for one to begin, of which so much has passed.
  bool Late(absl::Duration passed) const;
  // Waits until the socket is ready, or says false at the deadline or after too long a silence.
  bool Wait(short events) const;
  // Calls one of OpenSSL's functions until it does not ask for more from the socket.
  template <typename Step>
  int WithTls(const Step& step);
  ssize_t Receive(char* bytes, size_t size);
  ssize_t Send(const char* bytes, size_t size);

  const int socket_;
  const TlsSession tls_;
  const ConnectionLimits limits_;
  const ConnectionSignals& signals_;
  absl::Time began_;  // the request, or the connection
  absl::Time deadline_;
  bool in_head_ = true;
  bool answering_ = false;
  bool closes_ = false;
  std::int64_t head_bytes_ = 0;
  std::array<char, 16384> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // what of the buffer has not been read
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_CONNECTION_H_
