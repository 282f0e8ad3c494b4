// TLS for the web port, by OpenSSL, with certificates that are renewed while we serve.
#ifndef HEADLIGHT_SERVER_WEB_TLS_SESSIONS_H_
#define HEADLIGHT_SERVER_WEB_TLS_SESSIONS_H_

#include <openssl/ssl.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/security/reloaded.h"
#include "server/security/tls_identity.h"

namespace headlight {

struct FreeSsl {
  void operator()(SSL* session) const { SSL_free(session); }
};
using TlsSession = std::unique_ptr<SSL, FreeSsl>;

// Thread-safe.
class TlsSessions {
 public:
  // `identity` outlives it.
  explicit TlsSessions(const Reloaded<TlsIdentity>& identity) : identity_(identity) {}

  // A server's side of TLS 1.2 or later on a socket, before its handshake, with the certificate of this moment; where
  // the identity has roots for clients, one of theirs is required. Null where OpenSSL has no memory.
  TlsSession Begin(int socket);

 private:
  std::shared_ptr<SSL_CTX> Context();

  const Reloaded<TlsIdentity>& identity_;
  absl::Mutex mutex_;
  std::shared_ptr<const TlsIdentity> made_for_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<SSL_CTX> context_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_TLS_SESSIONS_H_
