#include "server/security/tls_identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

std::string Taken(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return text;
}

std::string PemOf(const Key& key, const char* passphrase = nullptr) {
  BIO* bio = BIO_new(BIO_s_mem());
  const EVP_CIPHER* cipher = passphrase == nullptr ? nullptr : EVP_aes_128_cbc();
  PEM_write_bio_PKCS8PrivateKey(bio, key.get(), cipher, nullptr, 0, nullptr, const_cast<char*>(passphrase));
  return Taken(bio);
}

// Signed by its own key, good until `seconds` from now.
std::string CertificateOf(const Key& key, long seconds) {
  X509* certificate = X509_new();
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), seconds);
  X509_set_pubkey(certificate, key.get());
  X509_sign(certificate, key.get(), EVP_sha256());
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, certificate);
  X509_free(certificate);
  return Taken(bio);
}

std::string MessageOf(const std::vector<std::string>& contents) {
  const auto identity = MakeTlsIdentity(contents);
  EXPECT_FALSE(identity.ok());
  EXPECT_EQ(identity.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(identity.status().message());
}

class TlsIdentityTest : public testing::Test {
 protected:
  const Key key_{EVP_EC_gen("P-256")};
  const Key other_{EVP_EC_gen("P-256")};
  const std::string certificate_ = CertificateOf(key_, 7200);
};

TEST_F(TlsIdentityTest, KeepsWhatItWasGivenAndKnowsWhenTheFirstOfTheChainExpires) {
  const std::string chain = certificate_ + CertificateOf(other_, 3600);
  const std::string roots = CertificateOf(other_, 60);
  const auto identity = MakeTlsIdentity({chain, PemOf(key_), roots});
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->certificate_chain, chain);
  EXPECT_EQ(identity->private_key, PemOf(key_));
  EXPECT_EQ(identity->client_roots, roots);
  EXPECT_NEAR(absl::ToDoubleSeconds(identity->expiry - absl::Now()), 3600, 60);
  EXPECT_EQ(MakeTlsIdentity({certificate_, PemOf(key_)})->client_roots, "");
}

TEST_F(TlsIdentityTest, AnExpiredCertificateIsOne) {
  const auto identity = MakeTlsIdentity({CertificateOf(key_, -60), PemOf(key_)});
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_LT(identity->expiry, absl::Now());
}

TEST_F(TlsIdentityTest, RefusesWhatDoesNotFit) {
  EXPECT_THAT(MessageOf({"", PemOf(key_)}), HasSubstr("holds no certificate"));
  EXPECT_THAT(MessageOf({PemOf(key_), PemOf(key_)}), HasSubstr("holds no certificate"));
  EXPECT_THAT(MessageOf({certificate_, ""}), HasSubstr("no private key"));
  EXPECT_THAT(MessageOf({certificate_, PemOf(key_, "secret")}), HasSubstr("passphrase"));
  EXPECT_THAT(MessageOf({certificate_, PemOf(other_)}), HasSubstr("not that of the certificate"));
  EXPECT_THAT(MessageOf({certificate_, PemOf(key_), "none"}), HasSubstr("client authorities"));
}

TEST_F(TlsIdentityTest, RefusesAChainThatIsCutOff) {
  const std::string second = CertificateOf(other_, 3600);
  EXPECT_THAT(MessageOf({certificate_ + second.substr(0, second.size() / 2), PemOf(key_)}), HasSubstr("damaged"));
}

TEST_F(TlsIdentityTest, RefusesAKeyThatOpenSslWouldNotServeWith) {
  const Key weak(EVP_RSA_gen(1024));
  EXPECT_THAT(MessageOf({CertificateOf(weak, 3600), PemOf(weak)}), HasSubstr("key too small"));
}

}  // namespace
}  // namespace headlight
