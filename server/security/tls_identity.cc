#include "server/security/tls_identity.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

template <typename T, void (*Free)(T*)>
struct Freed {
  void operator()(T* object) const { Free(object); }
};
struct FreedBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using Bio = std::unique_ptr<BIO, FreedBio>;
using Certificate = std::unique_ptr<X509, Freed<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX, SSL_CTX_free>>;

Bio Reading(const std::string& pem) { return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

// Never asks a terminal.
int NoPassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*data*/) { return -1; }

// Errors: INVALID_ARGUMENT where there is none, or one is damaged.
absl::StatusOr<std::vector<Certificate>> ReadCertificates(const std::string& pem, absl::string_view of_what) {
  const Bio bio = Reading(pem);
  std::vector<Certificate> certificates;
  ERR_clear_error();
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr)) {
    certificates.emplace_back(certificate);
  }
  const bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (ended && !certificates.empty()) return certificates;
  return absl::InvalidArgumentError(absl::StrCat(
      of_what, certificates.empty() ? " holds no certificate in PEM form" : " holds a damaged certificate"));
}

absl::Time ExpiryOf(const Certificate& certificate) {
  std::tm time{};
  ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &time);
  return absl::FromTM(time, absl::UTCTimeZone());
}

// OpenSSL's own word, such as "ee key too small".
absl::Status Refused(absl::string_view what) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  absl::Status status =
      absl::InvalidArgumentError(absl::StrCat(what, reason == nullptr ? "" : absl::StrCat(": ", reason)));
  ERR_clear_error();
  return status;
}

absl::Status CheckPair(const Certificate& certificate, const std::string& private_key) {
  const Bio bio = Reading(private_key);
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError("the key file holds no private key in PEM form, or one with a passphrase");
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError("the key is not that of the certificate");
  }
  const Context context(SSL_CTX_new(TLS_server_method()));
  if (SSL_CTX_use_certificate(context.get(), certificate.get()) != 1) return Refused("the certificate is refused");
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1) return Refused("the key is refused");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TlsIdentity> MakeTlsIdentity(const std::vector<std::string>& contents) {
  TlsIdentity identity{contents[0], contents[1], contents.size() > 2 ? contents[2] : "", absl::InfiniteFuture()};
  const auto chain = ReadCertificates(identity.certificate_chain, "the certificate file");
  if (!chain.ok()) return chain.status();
  if (absl::Status pair = CheckPair(chain->front(), identity.private_key); !pair.ok()) return pair;
  if (contents.size() > 2) {
    const auto roots = ReadCertificates(identity.client_roots, "the file of client authorities");
    if (!roots.ok()) return roots.status();
  }
  for (const Certificate& certificate : *chain) identity.expiry = std::min(identity.expiry, ExpiryOf(certificate));
  return identity;
}

}  // namespace headlight
