#include "server/service/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <string>
#include <type_traits>

namespace headlight {
namespace {

// Credentials of the C core as C++ ones. In gRPC 1.51 the base class is an interface,
template <typename Base = grpc::ServerCredentials, bool = std::is_abstract_v<Base>>
class CoreCredentials : public Base {
 public:
  explicit CoreCredentials(grpc_server_credentials* core) : core_(core) {}
  ~CoreCredentials() override { grpc_server_credentials_release(core_); }
  // Aborts the process on metadata that it cannot print (1.51.1): door.h does without.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), core_);
  }
  grpc_server_credentials* core_;
};
// and in later versions it holds them itself.
template <typename Base>
class CoreCredentials<Base, false> : public Base {
 public:
  explicit CoreCredentials(grpc_server_credentials* core) : Base(core) {}
};

// gRPC's own watcher of files drops the old pair before it has looked at the new one (1.51.1): here the C core asks for
// the pair at each handshake instead.
class TlsCredentials final : public CoreCredentials<> {
 public:
  explicit TlsCredentials(const Reloaded<TlsIdentity>& identity)
      : CoreCredentials(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(RequestOf(identity), Fetch, this))),
        identity_(identity) {}

 private:
  static grpc_ssl_client_certificate_request_type RequestOf(const Reloaded<TlsIdentity>& identity) {
    return identity.current()->client_roots.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                    : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }

  // gRPC calls it under a lock of the listener.
  static grpc_ssl_certificate_config_reload_status Fetch(void* credentials,
                                                         grpc_ssl_server_certificate_config** config) {
    auto* self = static_cast<TlsCredentials*>(credentials);
    std::shared_ptr<const TlsIdentity> now = self->identity_.current();
    if (now == self->served_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair{now->private_key.c_str(), now->certificate_chain.c_str()};
    // Debian's gRPC insists on roots, even where no client is asked for a certificate.
    const std::string& roots = now->client_roots.empty() ? now->certificate_chain : now->client_roots;
    *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
    self->served_ = std::move(now);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const Reloaded<TlsIdentity>& identity_;
  std::shared_ptr<const TlsIdentity> served_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(const Reloaded<TlsIdentity>& identity) {
  return std::make_shared<TlsCredentials>(identity);
}

}  // namespace headlight
