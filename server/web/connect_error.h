// Errors as the Connect protocol writes them.
#ifndef HEADLIGHT_SERVER_WEB_CONNECT_ERROR_H_
#define HEADLIGHT_SERVER_WEB_CONNECT_ERROR_H_

#include <grpcpp/support/status.h>

#include <string>

#include "server/web/connect.h"

namespace headlight {

// JSON with the code, the message and the details of google.rpc.Status, each also in JSON where its type is known.
WebAnswer ConnectError(const grpc::Status& status);

// One without details.
WebAnswer ConnectError(grpc::StatusCode code, const std::string& message);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_CONNECT_ERROR_H_
