#include "server/web/framing.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "server/web/connect_metadata.h"

namespace headlight {
namespace {

std::ptrdiff_t Count(const WebHeaders& headers, absl::string_view name) {
  return std::count_if(headers.begin(), headers.end(), [&](const auto& header) { return header.first == name; });
}

Framing Refused(int status, std::string reason) {
  Framing framing;
  framing.status = status;
  framing.reason = std::move(reason);
  return framing;
}

}  // namespace

Framing FramingOf(const WebHeaders& headers) {
  const std::ptrdiff_t lengths = Count(headers, "content-length"), encodings = Count(headers, "transfer-encoding");
  if (Count(headers, "host") > 1) return Refused(400, "more than one Host");
  if (lengths > 1) return Refused(400, "more than one Content-Length");
  if (lengths == 1 && encodings > 0)
    return Refused(400, "Content-Length and Transfer-Encoding; one says where it ends");
  Framing framing;
  if (encodings > 0) {
    const absl::string_view encoding = HeaderIn(headers, "transfer-encoding");
    if (encodings > 1 || !absl::EqualsIgnoreCase(encoding, "chunked")) {
      return Refused(501, "Transfer-Encoding: chunked is what is taken");
    }
    framing.is_chunked = true;
  }
  if (lengths == 1) {
    const absl::string_view length = HeaderIn(headers, "content-length");
    const bool digits = std::all_of(length.begin(), length.end(), absl::ascii_isdigit);
    if (!digits || !absl::SimpleAtoi(length, &framing.length)) return Refused(400, "Content-Length is no number");
  }
  return framing;
}

Target SplitTarget(const std::string& target) {
  if (absl::StartsWith(target, "/")) return {"", target};
  for (const absl::string_view scheme : {"http://", "https://"}) {
    if (!absl::StartsWithIgnoreCase(target, scheme)) continue;
    const std::size_t slash = std::min(target.find('/', scheme.size()), target.size());
    const std::string path = target.substr(slash);
    return {target.substr(scheme.size(), slash - scheme.size()), path.empty() ? "/" : path};
  }
  return {"", target};
}

}  // namespace headlight
