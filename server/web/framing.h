// What a request's head says of its body, held to RFC 9112: what one reader takes for a body and another for the next
// request lets a stranger's request pass for a neighbour's, where a proxy shares its connections.
#ifndef HEADLIGHT_SERVER_WEB_FRAMING_H_
#define HEADLIGHT_SERVER_WEB_FRAMING_H_

#include <optional>
#include <string>

#include "server/web/connect.h"

namespace headlight {

struct Framing {
  int status = 200;          // 400 or 501 where the head is refused
  std::string reason;        // in words, where it is
  std::int64_t length = -1;  // of the body, where the head says it
  bool is_chunked = false;   // the body says itself where it ends
  bool has_body() const { return is_chunked || length > 0; }
};

// One Host at most; one Content-Length of digits, or one Transfer-Encoding of "chunked", or neither: then there is no
// body.
Framing FramingOf(const WebHeaders& headers);

// "http://HOST/PATH", which a proxy may send, as "/PATH", and its host, which goes before the header Host (RFC 9112,
// 3.2.2); every other target as it is, and no host.
struct Target {
  std::string host, path;
};
Target SplitTarget(const std::string& target);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_FRAMING_H_
