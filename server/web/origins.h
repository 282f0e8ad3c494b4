// Which pages may call: what keeps a stranger's page, open in the same browser, away from a server on this machine.
#ifndef HEADLIGHT_SERVER_WEB_ORIGINS_H_
#define HEADLIGHT_SERVER_WEB_ORIGINS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace headlight {

// What a request says of where it comes from: the headers of these names, empty where it has none.
struct WebSource {
  std::string host, origin, fetch_site, fetch_mode;
};

struct OriginRules {
  // Names by which the server is called, without port, beside "localhost" and any IP address: a name that a stranger
  // has point here (DNS rebinding) is none of them. In lower case.
  std::vector<std::string> hosts;
  // Other origins whose pages may call: "https://example.org:8443".
  std::vector<std::string> origins;
  std::string scheme = "http";  // of the server's own origin
};

enum class Provenance : std::uint8_t {
  kOwn,          // of our page, or of what is no browser
  kListed,       // of a page that may call
  kStrangeHost,  // refuse
  kStrangePage,  // refuse
};

// Of a request. `shows_page`: it asks for a page of the explorer, to which any page may link.
Provenance Judge(const WebSource& source, const OriginRules& rules, bool shows_page);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_ORIGINS_H_
