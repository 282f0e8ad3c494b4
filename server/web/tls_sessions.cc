#include "server/web/tls_sessions.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <string>

namespace headlight {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free_all)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

Bio Reading(const std::string& pem) {
  return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free_all};
}

Certificate Next(BIO* pem) { return {PEM_read_bio_X509(pem, nullptr, nullptr, nullptr), X509_free}; }

// MakeTlsIdentity has seen that all of it can be read.
void UseIdentity(const TlsIdentity& identity, SSL_CTX* context) {
  const Bio chain = Reading(identity.certificate_chain);
  if (const Certificate own = Next(chain.get()); own != nullptr) SSL_CTX_use_certificate(context, own.get());
  while (const Certificate next = Next(chain.get())) SSL_CTX_add1_chain_cert(context, next.get());
  const Bio pem = Reading(identity.private_key);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(pem.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  SSL_CTX_use_PrivateKey(context, key.get());
  if (identity.client_roots.empty()) return;
  const Bio roots = Reading(identity.client_roots);
  while (const Certificate root = Next(roots.get())) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), root.get());
    SSL_CTX_add_client_CA(context, root.get());
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
}

}  // namespace

std::shared_ptr<SSL_CTX> TlsSessions::Context() {
  const absl::MutexLock lock(&mutex_);
  std::shared_ptr<const TlsIdentity> now = identity_.current();
  if (context_ != nullptr && now == made_for_) return context_;
  std::shared_ptr<SSL_CTX> made(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (made == nullptr) return nullptr;
  SSL_CTX_set_min_proto_version(made.get(), TLS1_2_VERSION);
  // Sessions are not resumed: each handshake looks at the certificates of its moment.
  SSL_CTX_set_session_cache_mode(made.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(made.get(), SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  UseIdentity(*now, made.get());
  made_for_ = std::move(now);
  context_ = std::move(made);
  return context_;
}

TlsSession TlsSessions::Begin(int socket) {
  const std::shared_ptr<SSL_CTX> context = Context();
  TlsSession session(context == nullptr ? nullptr : SSL_new(context.get()));
  if (session == nullptr || SSL_set_fd(session.get(), socket) != 1) return nullptr;
  SSL_set_accept_state(session.get());
  return session;
}

}  // namespace headlight
