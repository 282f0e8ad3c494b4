// SHA-256, by OpenSSL.
#ifndef HEADLIGHT_SERVER_SECURITY_DIGEST_H_
#define HEADLIGHT_SERVER_SECURITY_DIGEST_H_

#include <array>

#include "absl/strings/string_view.h"

namespace headlight {

using Digest = std::array<unsigned char, 32>;

Digest DigestOf(absl::string_view text);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_DIGEST_H_
