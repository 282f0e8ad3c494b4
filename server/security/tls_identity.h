// A server's certificate and key, and whose clients it trusts.
#ifndef HEADLIGHT_SERVER_SECURITY_TLS_IDENTITY_H_
#define HEADLIGHT_SERVER_SECURITY_TLS_IDENTITY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace headlight {

// All in PEM form.
struct TlsIdentity {
  std::string certificate_chain;  // the server's own certificate first
  std::string private_key;
  std::string client_roots;  // empty: clients need no certificate
  absl::Time expiry;         // when the first of the chain expires
};

// From the contents of the files: chain, key and, for clients' certificates, roots. What OpenSSL would not serve with
// is refused here. Errors: INVALID_ARGUMENT for what is no certificate or key in PEM form, a key with a passphrase, a
// key that is not the certificate's, one that is too weak. An expired certificate is none: clients judge that.
absl::StatusOr<TlsIdentity> MakeTlsIdentity(const std::vector<std::string>& contents);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_TLS_IDENTITY_H_
