// The bearer tokens that are accepted.
#ifndef HEADLIGHT_SERVER_SECURITY_TOKENS_H_
#define HEADLIGHT_SERVER_SECURITY_TOKENS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/security/digest.h"

namespace headlight {

// Keeps digests, never a token. Immutable.
class TokenSet {
 public:
  // One token a line, of 16 or more printable ASCII characters without a space; blank lines and those that begin with #
  // are passed over, and so is space around a token. Errors: INVALID_ARGUMENT, with the number of the line, for
  // anything else and for a text without a token.
  static absl::StatusOr<TokenSet> Parse(absl::string_view text);

  // Whether it is one of them, in a time that depends on its length and on the number of tokens alone.
  bool Holds(absl::string_view token) const;

 private:
  std::vector<Digest> digests_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_TOKENS_H_
