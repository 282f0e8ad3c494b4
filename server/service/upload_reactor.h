// UploadLayer as gRPC brings it: messages one after the other, then one answer.
#ifndef HEADLIGHT_SERVER_SERVICE_UPLOAD_REACTOR_H_
#define HEADLIGHT_SERVER_SERVICE_UPLOAD_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include "headlight/v1/layer_service.pb.h"
#include "server/service/calls.h"

namespace headlight {

// Ends the call where nothing comes for max_stream_idle_milliseconds, at its deadline, and as soon as a message is no
// good. Deletes itself.
grpc::ServerReadReactor<v1::UploadLayerRequest>* StartUpload(const Arrival& arrival, v1::UploadLayerResponse* response);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_UPLOAD_REACTOR_H_
