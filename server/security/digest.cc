#include "server/security/digest.h"

#include <openssl/sha.h>

namespace headlight {

Digest DigestOf(absl::string_view text) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

}  // namespace headlight
