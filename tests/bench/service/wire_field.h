// One field of a protobuf message by its path of field numbers, without the message's type: answers of servers that
// speak different contracts are read alike.
#ifndef HEADLIGHT_TESTS_BENCH_SERVICE_WIRE_FIELD_H_
#define HEADLIGHT_TESTS_BENCH_SERVICE_WIRE_FIELD_H_

#include <grpcpp/support/byte_buffer.h>

#include <optional>
#include <string>
#include <vector>

namespace headlight::bench {

// Numbers of fields, outermost message first; all but the last are messages.
using FieldPath = std::vector<int>;

// "6.19" to {6, 19}; nullopt where it is anything but numbers of fields with dots between.
std::optional<FieldPath> ParseFieldPath(const std::string& text);

// The first length-delimited field on this path: its bytes. nullopt: it is not there, or the message is broken.
std::optional<std::string> BytesAt(const grpc::ByteBuffer& message, const FieldPath& path);

// The google.protobuf.Duration on this path, in seconds.
std::optional<double> SecondsAt(const grpc::ByteBuffer& message, const FieldPath& path);

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_SERVICE_WIRE_FIELD_H_
