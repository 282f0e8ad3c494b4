// Messages of a stream as gRPC has their bytes: the data of chunks are copied once on the way in, and not at all on the
// way out.
#ifndef HEADLIGHT_SERVER_SERVICE_STREAM_WIRE_H_
#define HEADLIGHT_SERVER_SERVICE_STREAM_WIRE_H_

#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"
#include "headlight/v1/attention_service.pb.h"
#include "server/service/attend_stream_call.h"
#include "server/service/stream_tensors.h"

namespace headlight {

// Hands a message to the call, and says which part it was. Errors: those of AttendStreamCall::Take; INVALID_ARGUMENT
// where the bytes are no message.
absl::Status TakeBytes(grpc::ByteBuffer& bytes, AttendStreamCall& call, v1::AttendStreamRequest::PartCase* part);

// The bytes of a message, a chunk's data being those of `piece`, which they keep.
grpc::ByteBuffer PackMessage(const v1::AttendStreamResponse& message, StreamResults::Piece piece);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_STREAM_WIRE_H_
