// One attempt of a streamed call. Private to the library.
#ifndef HEADLIGHT_CLIENT_CPP_STREAM_CALL_H_
#define HEADLIGHT_CLIENT_CPP_STREAM_CALL_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <functional>

#include "client/cpp/streaming.h"
#include "headlight/v1/attention_service.grpc.pb.h"

namespace headlight::client {

// Sends the request in chunks and puts the answer together in `response`, then calls `ended` once, on a thread of
// gRPC's: with DATA_LOSS where the server said OK and something is missing, comes twice or does not fit. What the
// arguments point to outlives that.
void BeginStream(v1::AttentionService::Stub& stub, grpc::ClientContext* context, const v1::AttendRequest* request,
                 v1::AttendResponse* response, WatchStream watch, std::function<void(grpc::Status)> ended);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CPP_STREAM_CALL_H_
