// TLS for gRPC with certificates that can be renewed while it serves.
#ifndef HEADLIGHT_SERVER_SERVICE_TLS_CREDENTIALS_H_
#define HEADLIGHT_SERVER_SERVICE_TLS_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/security/reloaded.h"
#include "server/security/tls_identity.h"

namespace headlight {

// For one listening address. TLS 1.2 or newer; each new connection is served with what `identity` is then, and must
// have a verified certificate of its own where there are client roots. Both `identity` and what is returned outlive the
// server.
std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(const Reloaded<TlsIdentity>& identity);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_TLS_CREDENTIALS_H_
