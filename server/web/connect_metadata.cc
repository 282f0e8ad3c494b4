#include "server/web/connect_metadata.h"

#include <grpc/grpc.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

// Of HTTP and of browsers, and what cpp-httplib puts beside them.
constexpr std::array<absl::string_view, 28> kOfHttp = {"accept",           "accept-encoding",
                                                       "accept-language",  "cache-control",
                                                       "connection",       "content-length",
                                                       "content-type",     "content-encoding",
                                                       "cookie",           "dnt",
                                                       "expect",           "host",
                                                       "keep-alive",       "local_addr",
                                                       "local_port",       "origin",
                                                       "pragma",           "priority",
                                                       "proxy-connection", "range",
                                                       "referer",          "remote_addr",
                                                       "remote_port",      "te",
                                                       "trailer",          "transfer-encoding",
                                                       "upgrade",          "user-agent"};
// Of gRPC, which would come twice or mean something else here.
constexpr std::array<absl::string_view, 6> kOfGrpc = {"accept-encoding",      "content-type",  "date",
                                                      "grpc-accept-encoding", "grpc-encoding", "server"};

template <typename Names>
bool Holds(const Names& names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool IsOfHttp(absl::string_view name) {
  for (const char* prefix : {"connect-", "sec-", "grpc-", "access-control-", "upgrade-", ":"}) {
    if (absl::StartsWith(name, prefix)) return true;
  }
  return Holds(kOfHttp, name);
}

bool IsLegal(const std::string& name, const std::string& value, bool binary) {
  const grpc_slice key = grpc_slice_from_static_buffer(name.data(), name.size());
  const grpc_slice text = grpc_slice_from_static_buffer(value.data(), value.size());
  return grpc_header_key_is_legal(key) != 0 && (binary || grpc_header_nonbin_value_is_legal(text) != 0);
}

void Append(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata, absl::string_view prefix,
            WebHeaders& headers) {
  for (const auto& [key, value] : metadata) {
    const absl::string_view name(key.data(), key.size());
    const absl::string_view text(value.data(), value.size());
    if (Holds(kOfGrpc, name) || name == "grpc-status-details-bin") continue;
    std::string sent(text);
    if (absl::EndsWith(name, "-bin")) {
      sent = absl::Base64Escape(text);
      while (!sent.empty() && sent.back() == '=') sent.pop_back();
    }
    headers.emplace_back(absl::StrCat(prefix, name), std::move(sent));
  }
}

}  // namespace

absl::string_view HeaderIn(const WebHeaders& headers, absl::string_view name) {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

void AddMetadata(const WebHeaders& headers, grpc::ClientContext* context) {
  for (const auto& [name, value] : headers) {
    if (IsOfHttp(name)) continue;
    const bool binary = absl::EndsWith(name, "-bin");
    std::string sent = value;
    if (binary && !absl::Base64Unescape(value, &sent)) continue;
    if (IsLegal(name, sent, binary)) context->AddMetadata(name, sent);
  }
}

WebHeaders HeadersFrom(const grpc::ClientContext& context) {
  WebHeaders headers;
  Append(context.GetServerInitialMetadata(), "", headers);
  Append(context.GetServerTrailingMetadata(), "trailer-", headers);
  return headers;
}

}  // namespace headlight
