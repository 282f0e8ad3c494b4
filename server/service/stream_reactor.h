// AttendStream as gRPC brings it: messages in both directions at once, as bytes (stream_wire.h).
#ifndef HEADLIGHT_SERVER_SERVICE_STREAM_REACTOR_H_
#define HEADLIGHT_SERVER_SERVICE_STREAM_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include "headlight/v1/attention_service.pb.h"
#include "server/service/calls.h"

namespace headlight {

// One message is being written at a time, and the next is made when it was. Ends the call where the client neither
// sends what is awaited nor reads what is written for max_stream_idle_milliseconds. A status waits as long for what is
// being written, and everything the call holds is given back before it is sent. Deletes itself.
grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartStream(const Arrival& arrival);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_STREAM_REACTOR_H_
