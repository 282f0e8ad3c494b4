#include "server/service/flags.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <string>

namespace headlight {
namespace {

// A variable whose value its option did not take: CLI11 before 2.4 throws, later ones pass over it.
void RefuseIgnoredVariables(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string& name = option->get_envname();
    const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
    if (value != nullptr && *value != '\0' && option->count() == 0) {
      throw CLI::ValidationError(option->get_name(), name + "=" + value + " is not a value that it takes");
    }
  }
}

void AddFlags(ServerOptions& options, CLI::App& app) {
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
  app.add_option("--max-call-seconds", options.max_call_seconds, "calls predicted to compute longer are refused")
      ->envname("HEADLIGHT_MAX_CALL_SECONDS")
      ->check(CLI::Range(0.001, 1e6));
  app.add_option("--max-wait-seconds", options.max_wait_seconds, "new calls predicted to wait longer are refused")
      ->envname("HEADLIGHT_MAX_WAIT_SECONDS")
      ->check(CLI::Range(0.001, 1e6));
  app.add_option("--max-calls", options.limits.max_calls, "calls admitted at once")
      ->envname("HEADLIGHT_MAX_CALLS")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--memory-budget-bytes", options.limits.max_memory_bytes,
                 "memory of all calls together; 0 takes 70 % of what the cgroup or the machine has left")
      ->envname("HEADLIGHT_MEMORY_BUDGET_BYTES")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 50));
  app.add_option("--drain-delay", options.drain_delay_seconds, "seconds of serving on, not ready, after SIGTERM")
      ->envname("HEADLIGHT_DRAIN_DELAY")
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("--drain-timeout", options.drain_timeout_seconds,
                 "seconds for accepted calls to end; 0: max-call-seconds + 5")
      ->envname("HEADLIGHT_DRAIN_TIMEOUT")
      ->check(CLI::Range(0.0, 86400.0));
  app.add_option("--log-level", options.log_level, "debug, info, warn, error or off")
      ->envname("HEADLIGHT_LOG_LEVEL")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}));
}

}  // namespace

std::variant<ServerOptions, int> ParseFlags(int argc, char** argv) {
  ServerOptions options;
  CLI::App app{"Headlight: exact multi-head attention as a gRPC service."};
  AddFlags(options, app);
  // CLI11 passes over a variable that is empty; here it says: off.
  const char* http = std::getenv("HEADLIGHT_HTTP");
  if (http != nullptr && *http == '\0') options.http.clear();
  try {
    app.parse(argc, argv);
    RefuseIgnoredVariables(app);
  } catch (const CLI::Success& asked) {
    return app.exit(asked);  // --help, --version
  } catch (const CLI::ParseError& error) {
    std::cerr << "headlight-server: " << error.what() << " (--help lists the flags)\n";
    return 2;
  }
  return options;
}

}  // namespace headlight
