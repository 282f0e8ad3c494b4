#include "server/web/origins.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace headlight {
namespace {

bool IsAddress(const std::string& name) {
  in6_addr address;
  return inet_pton(AF_INET, name.c_str(), &address) == 1 || inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

// Of "name:port", "[::1]:port" or without a port. Empty where it is none of these.
std::string NameIn(absl::string_view host) {
  const bool bracketed = absl::StartsWith(host, "[");
  const std::size_t end = bracketed ? host.find(']') : host.find(':');
  const std::string name = absl::AsciiStrToLower(host.substr(bracketed ? 1 : 0, bracketed ? end - 1 : end));
  absl::string_view rest = end == absl::string_view::npos ? "" : host.substr(bracketed ? end + 1 : end);
  const bool has_port = absl::ConsumePrefix(&rest, ":");
  std::uint16_t port = 0;
  const bool is_port =
      rest.empty() || (has_port && std::all_of(rest.begin(), rest.end(), absl::ascii_isdigit) &&
                       std::from_chars(rest.data(), rest.data() + rest.size(), port).ec == std::errc());
  in6_addr address;
  if (bracketed && (end == absl::string_view::npos || inet_pton(AF_INET6, name.c_str(), &address) != 1)) return "";
  return is_port ? name : "";
}

bool Holds(const std::vector<std::string>& texts, const std::string& text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

}  // namespace

Provenance Judge(const WebSource& source, const OriginRules& rules, bool shows_page) {
  const std::string name = NameIn(source.host);
  if (name != "localhost" && !IsAddress(name) && !Holds(rules.hosts, name)) return Provenance::kStrangeHost;
  const std::string own = absl::StrCat(rules.scheme, "://", absl::AsciiStrToLower(source.host));
  if (!source.origin.empty()) {
    const std::string origin = absl::AsciiStrToLower(source.origin);
    if (origin == own) return Provenance::kOwn;
    return Holds(rules.origins, origin) ? Provenance::kListed : Provenance::kStrangePage;
  }
  const bool own_site = source.fetch_site.empty() || source.fetch_site == "same-origin" || source.fetch_site == "none";
  if (own_site || (shows_page && source.fetch_mode == "navigate")) return Provenance::kOwn;
  return Provenance::kStrangePage;
}

}  // namespace headlight
