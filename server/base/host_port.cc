#include "server/base/host_port.h"

#include <arpa/inet.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace headlight {
namespace {

constexpr std::size_t kLongestHost = 253;
constexpr std::size_t kLongestLabel = 63;

bool IsAddress(int family, const std::string& host) {
  in6_addr ignored;
  return inet_pton(family, host.c_str(), &ignored) == 1;
}

bool AllDigits(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

bool IsLabel(absl::string_view label) {
  const auto allowed = [](char c) { return absl::ascii_isalnum(c) || c == '-' || c == '_'; };
  return !label.empty() && label.size() <= kLongestLabel && label.front() != '-' && label.back() != '-' &&
         std::all_of(label.begin(), label.end(), allowed);
}

bool IsHostName(absl::string_view host) {
  absl::ConsumeSuffix(&host, ".");
  const std::vector<absl::string_view> labels = absl::StrSplit(host, '.');
  // A last label of digits is a mistyped IPv4 address: no top-level domain looks like that.
  return host.size() <= kLongestHost && !AllDigits(labels.back()) && std::all_of(labels.begin(), labels.end(), IsLabel);
}

std::optional<int> ReadPort(absl::string_view text) {
  int port = 0;
  if (!AllDigits(text) || text.size() > 5 || !absl::SimpleAtoi(text, &port) || port > 65535) return std::nullopt;
  return port;
}

absl::Status Refuse(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not HOST:PORT: ", why));
}

}  // namespace

absl::StatusOr<HostPort> ParseHostPort(absl::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return Refuse(text, "the port is missing");
  const std::optional<int> port = ReadPort(text.substr(colon + 1));
  if (!port.has_value()) return Refuse(text, "the port must be a number from 0 to 65535");

  absl::string_view host = text.substr(0, colon);
  if (host.empty()) return Refuse(text, "the host is missing; 0.0.0.0 or [::] means every interface");
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]") || !IsAddress(AF_INET6, std::string(host))) {
      return Refuse(text, "brackets must hold an IPv6 address");
    }
    return HostPort{std::string(host), *port};
  }
  if (absl::StrContains(host, ':')) return Refuse(text, "an IPv6 address needs brackets, as in [::1]:9090");
  if (!IsAddress(AF_INET, std::string(host)) && !IsHostName(host)) {
    return Refuse(text, "the host must be an IPv4 address, an IPv6 address in brackets or a name");
  }
  return HostPort{std::string(host), *port};
}

std::string ToString(const HostPort& address) {
  if (absl::StrContains(address.host, ':')) return absl::StrCat("[", address.host, "]:", address.port);
  return absl::StrCat(address.host, ":", address.port);
}

}  // namespace headlight
