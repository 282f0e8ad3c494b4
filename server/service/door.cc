#include "server/service/door.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/errors.h"

namespace headlight {
namespace {

absl::string_view ViewOf(const grpc::string_ref& text) { return {text.data(), text.size()}; }

absl::Status Unauthenticated(absl::string_view message) {
  ErrorDetails details;
  details.reason = ErrorReason::kUnauthenticated;
  return MakeError(absl::StatusCode::kUnauthenticated, message, details);
}

absl::Status Denied(absl::string_view message) {
  ErrorDetails details;
  details.reason = ErrorReason::kPermissionDenied;
  return MakeError(absl::StatusCode::kPermissionDenied, message, details);
}

// The bearer token of a call; empty where there is none.
absl::string_view TokenIn(const grpc::ServerContextBase& context) {
  const auto& metadata = context.client_metadata();
  const auto entry = metadata.find("authorization");
  // Of two, another reader could take the other.
  if (entry == metadata.end() || metadata.count("authorization") != 1) return {};
  absl::string_view value = ViewOf(entry->second);
  constexpr absl::string_view kScheme = "Bearer ";
  if (!absl::StartsWithIgnoreCase(value, kScheme)) return {};
  value.remove_prefix(kScheme.size());
  return value;
}

class Doorkeeper final : public grpc::experimental::Interceptor {
 public:
  Doorkeeper(const Door& door, grpc::ServerContextBase* context) : door_(door), context_(context) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using grpc::experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      const absl::Status status = door_.Check(*context_);
      // The handler still starts, and finds its call ended.
      if (!status.ok()) {
        grpc_call_cancel_with_status(context_->c_call(), static_cast<grpc_status_code>(status.code()),
                                     std::string(status.message()).c_str(), nullptr);
      }
    }
    methods->Proceed();
  }

 private:
  const Door& door_;
  grpc::ServerContextBase* context_;
};

class DoorkeeperFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  DoorkeeperFactory(const Door& door, std::vector<std::string> own) : door_(door), own_(std::move(own)) {
    own_.emplace_back("/grpc.health.v1.Health/");
  }

  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    const absl::string_view method = info->method();
    const auto is_own = [&](const std::string& prefix) { return absl::StartsWith(method, prefix); };
    if (std::any_of(own_.begin(), own_.end(), is_own)) return nullptr;
    return new Doorkeeper(door_, info->server_context());
  }

 private:
  const Door& door_;
  std::vector<std::string> own_;
};

}  // namespace

Door::Door(const Reloaded<TokenSet>* tokens, std::vector<std::string> client_names, UploadRules uploads)
    : tokens_(tokens), client_names_(std::move(client_names)), uploads_(uploads) {}

absl::Status Door::Check(const grpc::ServerContextBase& context) const {
  if (!asks() || HasName(context) || HasToken(context)) return absl::OkStatus();
  if (tokens_ == nullptr) return Unauthenticated("no client certificate with a name that may call");
  return Unauthenticated("no valid token in the metadata \"authorization\", as \"Bearer TOKEN\"");
}

bool Door::HasToken(const grpc::ServerContextBase& context) const {
  if (tokens_ == nullptr) return false;
  const absl::string_view token = TokenIn(context);
  if (token.empty()) return false;
  return tokens_->current()->Holds(token) || (uploads_.tokens != nullptr && uploads_.tokens->current()->Holds(token));
}

absl::Status Door::CheckUpload(const grpc::ServerContextBase& context) const {
  if (!uploads_.allowed) return Denied("this server takes no layers: it was started without --allow-layer-uploads");
  if (uploads_.tokens == nullptr) {
    if (!asks()) return absl::OkStatus();
    return Denied("nobody may change layers: the server asks who calls, and was started without --upload-token-file");
  }
  if (uploads_.tokens->current()->Holds(TokenIn(context))) return absl::OkStatus();
  return Denied("only bearers of a token of --upload-token-file may change layers");
}

bool Door::HasName(const grpc::ServerContextBase& context) const {
  if (client_names_.empty()) return false;
  const std::shared_ptr<const grpc::AuthContext> peer = context.auth_context();
  // Other listeners, such as unix sockets, have no certificates.
  if (peer == nullptr || !peer->IsPeerAuthenticated()) return false;
  for (const char* property : {GRPC_X509_SAN_PROPERTY_NAME, GRPC_X509_CN_PROPERTY_NAME}) {
    for (const grpc::string_ref& name : peer->FindPropertyValues(property)) {
      const auto is_name = [&](const std::string& allowed) { return allowed == ViewOf(name); };
      if (std::any_of(client_names_.begin(), client_names_.end(), is_name)) return true;
    }
  }
  return false;
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeDoorkeeper(const Door& door,
                                                                                      std::vector<std::string> own) {
  return std::make_unique<DoorkeeperFactory>(door, std::move(own));
}

}  // namespace headlight
