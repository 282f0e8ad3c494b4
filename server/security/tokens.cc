#include "server/security/tokens.h"

#include <openssl/crypto.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace headlight {
namespace {

// Shorter ones can be guessed.
constexpr std::size_t kLeastCharacters = 16;

}  // namespace

absl::StatusOr<TokenSet> TokenSet::Parse(absl::string_view text) {
  TokenSet tokens;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    if (line.size() < kLeastCharacters || !std::all_of(line.begin(), line.end(), absl::ascii_isgraph)) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, " is no token: at least ", kLeastCharacters,
                                                     " printable ASCII characters without a space"));
    }
    tokens.digests_.push_back(DigestOf(line));
  }
  if (tokens.digests_.empty()) return absl::InvalidArgumentError("there is no token in it");
  return tokens;
}

bool TokenSet::Holds(absl::string_view token) const {
  const Digest digest = DigestOf(token);
  bool found = false;
  for (const Digest& one : digests_) found |= CRYPTO_memcmp(one.data(), digest.data(), digest.size()) == 0;
  return found;
}

}  // namespace headlight
