#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <string>

#include "server/service/server.h"

int main(int argc, char** argv) {
  headlight::ServerOptions options;
  CLI::App app{"Headlight: exact multi-head attention as a gRPC service."};
  app.set_version_flag("--version", "headlight " HEADLIGHT_VERSION);
  app.option_defaults()->always_capture_default();
  app.add_option("--listen", options.listen, "gRPC: HOST:PORT or unix:PATH; may be repeated; port 0 takes any")
      ->envname("HEADLIGHT_LISTEN");
  // No captured default: CLI11 would put it in the place of an empty value.
  app.add_option("--http", options.http, "metrics and probes: HOST:PORT [127.0.0.1:9464]; empty switches it off")
      ->default_str("")
      ->envname("HEADLIGHT_HTTP")
      ->expected(0, 1);
  app.add_option("--web", options.web, "reserved for the web port; empty switches it off")
      ->envname("HEADLIGHT_WEB")
      ->expected(0, 1);
  app.add_option("--threads", options.threads, "compute workers; 0 takes what the cgroup and the affinity allow")
      ->envname("HEADLIGHT_THREADS")
      ->check(CLI::Range(0, 1024));
  app.add_option("--cpu-target", options.cpu_target, "avx512, avx2, sse4, neon or baseline; empty takes the best")
      ->envname("HEADLIGHT_CPU_TARGET");
  app.add_option("--reflection", options.reflection, "serve gRPC reflection")->envname("HEADLIGHT_REFLECTION");
  app.add_option("--max-receive-bytes", options.limits.max_receive_bytes, "largest request message")
      ->envname("HEADLIGHT_MAX_RECEIVE_BYTES")
      ->check(CLI::Range(1, 2147483647));
  app.add_option("--max-response-bytes", options.limits.max_response_bytes, "largest answer message")
      ->envname("HEADLIGHT_MAX_RESPONSE_BYTES")
      ->check(CLI::Range(1, 2147483647));
  app.add_option("--drain-delay", options.drain_delay_seconds, "seconds of serving on, not ready, after SIGTERM")
      ->envname("HEADLIGHT_DRAIN_DELAY")
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("--drain-timeout", options.drain_timeout_seconds, "seconds for accepted calls to end")
      ->envname("HEADLIGHT_DRAIN_TIMEOUT")
      ->check(CLI::Range(0.0, 86400.0));
  app.add_option("--log-level", options.log_level, "debug, info, warn, error or off")
      ->envname("HEADLIGHT_LOG_LEVEL")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}));
  // CLI11 passes over a variable that is empty; here it says: off.
  const char* http = std::getenv("HEADLIGHT_HTTP");
  if (http != nullptr && *http == '\0') options.http.clear();
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return app.exit(asked);  // --help, --version
  } catch (const CLI::ParseError& error) {
    std::cerr << "headlight-server: " << error.what() << " (--help lists the flags)\n";
    return 2;
  }
  return headlight::RunServer(options);
}
