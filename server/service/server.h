// The process: options, listeners, life from start to drain.
#ifndef HEADLIGHT_SERVER_SERVICE_SERVER_H_
#define HEADLIGHT_SERVER_SERVICE_SERVER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/base/limits.h"
#include "server/service/transport.h"

namespace headlight {

struct ServerOptions {
  std::vector<std::string> listen = {"127.0.0.1:50051"};  // HOST:PORT or unix:PATH; port 0: any
  std::string http = "127.0.0.1:9464";                    // metrics and probes; empty: none
  std::string web = "127.0.0.1:8080";                     // explorer and calls over HTTP; empty: none
  std::vector<std::string> web_hosts, web_origins;        // as OriginRules has them
  std::string web_root;                                   // a folder of the explorer's files; empty: those built in
  int threads = 0;                                        // 0: what the cgroup and the affinity allow
  std::string cpu_target;                                 // empty: the best
  bool reflection = true;
  std::string layers;                // a folder of files; empty: none
  double drain_delay_seconds = 0;    // still serving, but not ready
  double drain_timeout_seconds = 0;  // what is not done then is cut off; 0: max_call_seconds + 5
  double max_call_seconds = 30;      // of computing; calls that are predicted to take longer are refused
  double max_wait_seconds = 1;       // predicted; beyond it new calls are refused
  double max_stream_idle_seconds = 60;
  std::string log_level = "info";
  int log_calls_per_second = 100;  // lines of calls that ended well, and as many of others; 0: none
  Limits limits;                   // of which the seconds above and an open memory budget are filled in at the start
  TransportOptions transport;
};

// Serves until SIGTERM or SIGINT, then drains. Prints the `ready` line on stdout when calls are answered. Call once,
// from the main thread, before others are started. Returns the process's exit code: 0 after a clean drain, 1 where it
// could not start (one line on stderr says why), 3 where the drain cut calls off.
int RunServer(const ServerOptions& options);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_SERVER_H_
