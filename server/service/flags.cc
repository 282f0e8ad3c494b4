#include "server/service/flags.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <string>

#include "server/base/host_port.h"

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

// An empty path would start without what was asked for, silently and open to everybody.
void RefuseEmptySecrets(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_name();
    if (name.rfind("--tls-", 0) != 0 && name.rfind("--auth-", 0) != 0 && name.rfind("--upload-", 0) != 0) continue;
    const char* value = option->get_envname().empty() ? nullptr : std::getenv(option->get_envname().c_str());
    if (value != nullptr && *value == '\0') {
      throw CLI::ValidationError(name, option->get_envname() + " is set and empty; unset it to go without");
    }
    for (const std::string& result : option->results()) {
      if (result.empty()) throw CLI::ValidationError(name, "is empty; leave it out to go without");
    }
  }
}

// A range that NaN is not in, as it is in CLI::Range.
CLI::Validator Between(double low, double high) {
  const CLI::Validator is_number(
      [](const std::string& text) {
        double value = 0;
        return CLI::detail::lexical_cast(text, value) && !std::isnan(value) ? "" : text + " is not a number";
      },
      "");
  return is_number & CLI::Range(low, high);
}

// What a time may be: gRPC counts milliseconds in 32 bits.
CLI::Validator Seconds() { return Between(0, 2e6); }

CLI::Validator Address() {
  return {[](const std::string& text) {
            constexpr std::size_t kMostOfAPath = 107;  // sockaddr_un
            if (text.rfind("unix:", 0) == 0) {
              const std::size_t length = text.size() - 5;
              if (length > 0 && length <= kMostOfAPath) return std::string();
              return text + ": the path of a unix socket has 1 to 107 bytes";
            }
            if (text.empty()) return std::string();
            return std::string(ParseHostPort(text).status().message());
          },
          "ADDRESS"};
}

void AddTlsFlags(TransportOptions& options, CLI::App& app) {
  auto* certificate =
      app.add_option("--tls-certificate", options.tls_certificate, "PEM file: the server's certificate and its chain")
          ->envname("HEADLIGHT_TLS_CERTIFICATE");
  auto* key = app.add_option("--tls-key", options.tls_key, "PEM file: its private key")->envname("HEADLIGHT_TLS_KEY");
  certificate->needs(key);
  key->needs(certificate);
  auto* client_ca = app.add_option("--tls-client-ca", options.tls_client_ca,
                                   "PEM file: who signs clients' certificates, which are required then")
                        ->envname("HEADLIGHT_TLS_CLIENT_CA")
                        ->needs(certificate);
  app.add_option("--auth-token-file", options.auth_token_file,
                 "accepted bearer tokens, one a line, # begins a comment; every call but health needs one then")
      ->envname("HEADLIGHT_AUTH_TOKEN_FILE");
  app.add_option("--auth-client-names", options.auth_client_names,
                 "names in clients' certificates (common or subject alternative) that may call without a token")
      ->default_str("")
      ->envname("HEADLIGHT_AUTH_CLIENT_NAMES")
      ->delimiter(',')
      ->needs(client_ca);
}

void AddConnectionFlags(ServerOptions& options, CLI::App& app) {
  TransportOptions& transport = options.transport;
  app.add_option("--max-metadata-bytes", options.limits.max_metadata_bytes, "largest metadata of a call")
      ->envname("HEADLIGHT_MAX_METADATA_BYTES")
      ->check(CLI::Range(1024, 1 << 20));
  app.add_option("--max-concurrent-streams", options.limits.max_concurrent_streams, "calls at once on one connection")
      ->envname("HEADLIGHT_MAX_CONCURRENT_STREAMS")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--grpc-memory-bytes", transport.grpc_memory_bytes, "gRPC's buffers; beyond them it cuts calls off")
      ->envname("HEADLIGHT_GRPC_MEMORY_BYTES")
      ->check(CLI::Range(std::int64_t{1} << 20, std::int64_t{1} << 50));
  app.add_option("--max-connection-age", transport.max_connection_age_seconds,
                 "seconds until a client is asked to connect anew; 0: never")
      ->envname("HEADLIGHT_MAX_CONNECTION_AGE")
      ->check(Seconds());
  app.add_option("--max-connection-age-grace", transport.max_connection_age_grace_seconds,
                 "seconds that its calls have left then [--max-call-seconds + 5]; 0: without end")
      ->default_str("")
      ->envname("HEADLIGHT_MAX_CONNECTION_AGE_GRACE")
      ->check(Seconds());
  app.add_option("--max-connection-idle", transport.max_connection_idle_seconds,
                 "seconds without a call until a connection is closed; 0: never")
      ->envname("HEADLIGHT_MAX_CONNECTION_IDLE")
      ->check(Seconds());
  app.add_option("--keepalive-time", transport.keepalive_time_seconds,
                 "seconds of silence until a client is asked whether it lives; 0: never")
      ->envname("HEADLIGHT_KEEPALIVE_TIME")
      ->check(Seconds());
  app.add_option("--keepalive-timeout", transport.keepalive_timeout_seconds, "seconds that it has to answer")
      ->envname("HEADLIGHT_KEEPALIVE_TIMEOUT")
      ->check(Seconds());
  app.add_option("--handshake-timeout", transport.handshake_timeout_seconds,
                 "seconds until a connection must be made, TLS included")
      ->envname("HEADLIGHT_HANDSHAKE_TIMEOUT")
      ->check(Seconds());
}

void AddSwitches(ServerOptions& options, CLI::App& app) {
  app.add_option("--reflection", options.reflection, "serve gRPC reflection")->envname("HEADLIGHT_REFLECTION");
  app.add_option("--channelz", options.transport.channelz, "serve channelz, which tells of all connections")
      ->envname("HEADLIGHT_CHANNELZ");
  app.add_option("--compression", options.transport.compression,
                 "take gzip and deflate, which may inflate without bound, instead of refusing them")
      ->envname("HEADLIGHT_COMPRESSION");
  app.add_option("--reuse-port", options.transport.reuse_port, "let other servers listen on the same port")
      ->envname("HEADLIGHT_REUSE_PORT");
}

void AddLayerFlags(ServerOptions& options, CLI::App& app) {
  app.add_option("--layers", options.layers, "folder whose *.safetensors files are loaded at the start")
      ->default_str("")
      ->envname("HEADLIGHT_LAYERS");
  app.add_flag("--allow-layer-uploads", options.transport.allow_layer_uploads,
               "let callers upload, prune and delete layers")
      ->envname("HEADLIGHT_ALLOW_LAYER_UPLOADS");
  app.add_option("--upload-token-file", options.transport.upload_token_file,
                 "bearer tokens, as in --auth-token-file, without which nobody may change layers")
      ->envname("HEADLIGHT_UPLOAD_TOKEN_FILE");
  app.add_option("--max-layer-bytes", options.limits.max_layer_bytes, "largest file of layers")
      ->envname("HEADLIGHT_MAX_LAYER_BYTES")
      ->check(CLI::Range(std::int64_t{1024}, std::int64_t{1} << 40));
}

void AddAdmissionFlags(ServerOptions& options, CLI::App& app) {
  app.add_option("--max-call-seconds", options.max_call_seconds, "calls predicted to compute longer are refused")
      ->envname("HEADLIGHT_MAX_CALL_SECONDS")
      ->check(Between(0.001, 1e6));
  app.add_option("--max-wait-seconds", options.max_wait_seconds, "new calls predicted to wait longer are refused")
      ->envname("HEADLIGHT_MAX_WAIT_SECONDS")
      ->check(Between(0.001, 1e6));
  app.add_option("--max-flops", options.limits.max_flops, "calls of more FLOPs, maps included, are refused")
      ->envname("HEADLIGHT_MAX_FLOPS")
      ->check(CLI::Range(std::int64_t{1'000'000}, std::int64_t{1} << 60));
  app.add_option("--max-stream-idle", options.max_stream_idle_seconds,
                 "seconds that the client of a stream may neither send nor read")
      ->envname("HEADLIGHT_MAX_STREAM_IDLE")
      ->check(Between(0.1, 86400));
  app.add_option("--max-calls", options.limits.max_calls, "calls that wait or compute at once")
      ->envname("HEADLIGHT_MAX_CALLS")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--memory-budget-bytes", options.limits.max_memory_bytes,
                 "memory of all calls together; 0 takes 70 % of what the cgroup or the machine has left")
      ->envname("HEADLIGHT_MEMORY_BUDGET_BYTES")
      ->check(CLI::IsMember(std::vector<std::int64_t>{0}) | CLI::Range(std::int64_t{1} << 20, std::int64_t{1} << 50));
}

void AddWebFlags(ServerOptions& options, CLI::App& app) {
  app.add_option("--web", options.web,
                 "explorer and calls over HTTP: HOST:PORT [127.0.0.1:8080]; empty switches it off")
      ->default_str("")
      ->envname("HEADLIGHT_WEB")
      ->expected(0, 1)
      ->check(Address());
  app.add_option("--web-hosts", options.web_hosts,
                 "names by which --web is called, beside localhost and any IP address")
      ->default_str("")
      ->envname("HEADLIGHT_WEB_HOSTS")
      ->delimiter(',');
  app.add_option("--web-origins", options.web_origins, "other origins whose pages may call, as https://example.org")
      ->default_str("")
      ->envname("HEADLIGHT_WEB_ORIGINS")
      ->delimiter(',');
  app.add_option("--web-root", options.web_root, "folder of the explorer's files, for who works on them")
      ->default_str("")
      ->envname("HEADLIGHT_WEB_ROOT")
      ->check(CLI::ExistingDirectory);
}

void AddFlags(ServerOptions& options, CLI::App& app) {
  app.set_version_flag("--version", "headlight " HEADLIGHT_VERSION);
  app.option_defaults()->always_capture_default();
  app.add_option("--listen", options.listen,
                 "gRPC: HOST:PORT or unix:PATH, several by commas or again; port 0 takes any")
      ->envname("HEADLIGHT_LISTEN")
      ->delimiter(',')
      ->check(Address());
  // No captured default: CLI11 would put it in the place of an empty value.
  app.add_option("--http", options.http, "metrics and probes: HOST:PORT [127.0.0.1:9464]; empty switches it off")
      ->default_str("")
      ->envname("HEADLIGHT_HTTP")
      ->expected(0, 1)
      ->check(Address());
  AddWebFlags(options, app);
  app.add_option("--threads", options.threads, "compute workers; 0 takes what the cgroup and the affinity allow")
      ->envname("HEADLIGHT_THREADS")
      ->check(CLI::Range(0, 1024));
  app.add_option("--cpu-target", options.cpu_target, "avx512, avx2, sse4, neon or baseline; empty takes the best")
      ->envname("HEADLIGHT_CPU_TARGET");
  AddSwitches(options, app);
  AddTlsFlags(options.transport, app);
  AddLayerFlags(options, app);
  AddConnectionFlags(options, app);
  app.add_option("--max-receive-bytes", options.limits.max_receive_bytes, "largest request message")
      ->envname("HEADLIGHT_MAX_RECEIVE_BYTES")
      ->check(CLI::Range(1, 2147483647));
  app.add_option("--max-response-bytes", options.limits.max_response_bytes, "largest answer message")
      ->envname("HEADLIGHT_MAX_RESPONSE_BYTES")
      ->check(CLI::Range(1, 2147483647));
  app.add_option("--max-stream-response-bytes", options.limits.max_stream_response_bytes, "largest answer of a stream")
      ->envname("HEADLIGHT_MAX_STREAM_RESPONSE_BYTES")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 50));
  AddAdmissionFlags(options, app);
  app.add_option("--drain-delay", options.drain_delay_seconds, "seconds of serving on, not ready, after SIGTERM")
      ->envname("HEADLIGHT_DRAIN_DELAY")
      ->check(Between(0, 3600));
  app.add_option("--drain-timeout", options.drain_timeout_seconds,
                 "seconds for accepted calls to end; 0: max-call-seconds + 5")
      ->envname("HEADLIGHT_DRAIN_TIMEOUT")
      ->check(Between(0, 86400));
  app.add_option("--log-level", options.log_level, "debug, info, warn, error or off")
      ->envname("HEADLIGHT_LOG_LEVEL")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}));
  app.add_option("--log-calls-per-second", options.log_calls_per_second,
                 "most lines of the log for calls that ended well, and as many for others; 0: none")
      ->envname("HEADLIGHT_LOG_CALLS_PER_SECOND")
      ->check(CLI::Range(0, 100'000));
}

}  // namespace

std::variant<ServerOptions, int> ParseFlags(int argc, char** argv) {
  ServerOptions options;
  CLI::App app{"Headlight: exact multi-head attention as a gRPC service."};
  AddFlags(options, app);
  // CLI11 passes over a variable that is empty; here it says: off.
  for (const auto& [name, address] : {std::pair{"HEADLIGHT_HTTP", &options.http}, {"HEADLIGHT_WEB", &options.web}}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value == '\0') address->clear();
  }
  try {
    app.parse(argc, argv);
    RefuseIgnoredVariables(app);
    RefuseEmptySecrets(app);
  } catch (const CLI::Success& asked) {
    return app.exit(asked);  // --help, --version
  } catch (const CLI::ParseError& error) {
    std::cerr << "headlight-server: " << error.what() << " (--help lists the flags)\n";
    return 2;
  }
  return options;
}

}  // namespace headlight
