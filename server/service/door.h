// Who may call: bearer tokens and the names in clients' certificates.
#ifndef HEADLIGHT_SERVER_SERVICE_DOOR_H_
#define HEADLIGHT_SERVER_SERVICE_DOOR_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/security/reloaded.h"
#include "server/security/tokens.h"

namespace headlight {

// Who may change the layers that the server holds.
struct UploadRules {
  bool allowed = false;                        // at all
  const Reloaded<TokenSet>* tokens = nullptr;  // outlives the door; whose bearers may, and nobody else
};

// Thread-safe.
class Door {
 public:
  // A call may pass with one of the tokens, as "authorization: Bearer TOKEN", or with a verified client certificate
  // whose common name or a subject alternative name is one of `client_names`. Tokens for uploads open it too. Neither
  // tokens (nullptr) nor names: every call may. `tokens` outlives the door.
  Door(const Reloaded<TokenSet>* tokens, std::vector<std::string> client_names, UploadRules uploads = {});

  bool asks() const { return tokens_ != nullptr || !client_names_.empty(); }

  // OK, or UNAUTHENTICATED with the reason of the same name.
  absl::Status Check(const grpc::ServerContextBase& context) const;

  // Whether a call that may enter may upload, prune and delete layers. With tokens for uploads their bearers may;
  // without, everybody may where the door asks nobody. OK, or PERMISSION_DENIED with the reason of the same name.
  absl::Status CheckUpload(const grpc::ServerContextBase& context) const;

 private:
  bool HasToken(const grpc::ServerContextBase& context) const;
  bool HasName(const grpc::ServerContextBase& context) const;

  const Reloaded<TokenSet>* tokens_;
  const std::vector<std::string> client_names_;
  const UploadRules uploads_;
};

// Keeps the door of methods that do not check for themselves, such as reflection's. Those whose paths begin with one of
// `own` ("/headlight.v1.") do, with details that an interceptor cannot send, and grpc.health.v1 is for everybody.
// `door` outlives the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeDoorkeeper(const Door& door,
                                                                                      std::vector<std::string> own);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_DOOR_H_
