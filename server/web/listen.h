// Listening as both HTTP servers do.
#ifndef HEADLIGHT_SERVER_WEB_LISTEN_H_
#define HEADLIGHT_SERVER_WEB_LISTEN_H_

#include <httplib.h>

#include <atomic>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/base/host_port.h"

namespace headlight {

// A port on which a server listens, on a thread of its own. Thread-safe.
class Listener {
 public:
  // Has `http`, which outlives it, listen before it returns; port 0 takes a free one. No second server may share the
  // port, and many clients may wait to be taken. Errors: UNAVAILABLE with the cause in its message, as a port in use.
  // Throws what starting a thread throws.
  static absl::StatusOr<std::unique_ptr<Listener>> Start(const HostPort& address, httplib::Server& http);

  // Stops.
  ~Listener() { Stop(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // The real one.
  int port() const { return port_; }

  // Closes the port and waits for answers under way. Idempotent.
  void Stop();

 private:
  Listener(httplib::Server& http, int port) : http_(http), port_(port) {}

  // Starts the thread. False: listening ended at once.
  bool Run();

  httplib::Server& http_;
  const int port_;
  std::atomic<bool> ended_{false};
  absl::Mutex mutex_;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_LISTEN_H_
