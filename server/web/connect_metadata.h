// Headers of HTTP and metadata of gRPC, one as the other.
#ifndef HEADLIGHT_SERVER_WEB_CONNECT_METADATA_H_
#define HEADLIGHT_SERVER_WEB_CONNECT_METADATA_H_

#include <grpcpp/client_context.h>

#include "server/web/connect.h"

namespace headlight {

// Empty where there is no such header; of several the first.
absl::string_view HeaderIn(const WebHeaders& headers, absl::string_view name);

// Gives a call the metadata that a request's headers carry: all but what belongs to HTTP, to the browser and to gRPC
// itself. Those of "-bin" are base64. Headers that gRPC would not take are left out.
void AddMetadata(const WebHeaders& headers, grpc::ClientContext* context);

// What a call's leading and trailing metadata are as headers; the latter begin with "trailer-".
WebHeaders HeadersFrom(const grpc::ClientContext& context);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_CONNECT_METADATA_H_
