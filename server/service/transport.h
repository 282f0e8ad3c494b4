// How gRPC listens: its settings, TLS, and what it asks of callers.
#ifndef HEADLIGHT_SERVER_SERVICE_TRANSPORT_H_
#define HEADLIGHT_SERVER_SERVICE_TRANSPORT_H_

#include <grpcpp/server_builder.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "server/base/limits.h"
#include "server/security/reloaded.h"
#include "server/security/tls_identity.h"
#include "server/security/tokens.h"
#include "server/service/door.h"

namespace headlight {

// Paths are empty for what is not asked for; of times, 0 is without end.
struct TransportOptions {
  std::string tls_certificate;  // PEM files
  std::string tls_key;
  std::string tls_client_ca;
  std::string auth_token_file;
  std::vector<std::string> auth_client_names;
  bool allow_layer_uploads = false;
  std::string upload_token_file;
  double max_connection_age_seconds = 300;  // then clients are asked to connect anew
  std::optional<double>
      max_connection_age_grace_seconds;  // what is under way then may take; else the longest call + 5 s
  double max_connection_idle_seconds = 600;
  double keepalive_time_seconds = 60;     // a silent connection is asked for a sign of life,
  double keepalive_timeout_seconds = 20;  // and closed where none comes
  double handshake_timeout_seconds = 10;
  std::int64_t grpc_memory_bytes = std::int64_t{512} << 20;  // gRPC's buffers: it cuts calls off beyond
  bool reuse_port = false;
  bool compression = false;
  bool channelz = false;
};

// The settings of the gRPC listeners, and the files behind them, which it looks at twice a second on a thread of its
// own. Thread-safe once the server is built; outlives it.
class Transport {
 public:
  // Reads the files. Errors, one line each: INVALID_ARGUMENT and UNAVAILABLE, as the files are wrong or cannot be read.
  static absl::StatusOr<std::unique_ptr<Transport>> Create(const TransportOptions& options);
  ~Transport();

  // Sets all but addresses and services.
  void Configure(const Limits& limits, grpc::ServerBuilder* builder);
  // TLS where it is configured, but never on "unix:PATH".
  std::shared_ptr<grpc::ServerCredentials> CredentialsFor(const std::string& address);

  const Door& door() const { return door_; }
  // Null without TLS.
  const Reloaded<TlsIdentity>* identity() const { return identity_.get(); }
  // When the certificate in use expires, in seconds since 1970; 0 without TLS.
  double certificate_expiry() const;

 private:
  Transport(const TransportOptions& options, std::unique_ptr<Reloaded<TlsIdentity>> identity,
            std::unique_ptr<Reloaded<TokenSet>> tokens, std::unique_ptr<Reloaded<TokenSet>> upload_tokens);
  void Watch();

  const TransportOptions options_;
  const std::unique_ptr<Reloaded<TlsIdentity>> identity_;
  const std::unique_ptr<Reloaded<TokenSet>> tokens_;
  const std::unique_ptr<Reloaded<TokenSet>> upload_tokens_;
  const Door door_;
  std::vector<std::shared_ptr<grpc::ServerCredentials>> credentials_;
  absl::Notification stop_;
  std::thread watcher_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_TRANSPORT_H_
