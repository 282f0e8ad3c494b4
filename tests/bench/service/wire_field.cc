#include "tests/bench/service/wire_field.h"

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace headlight::bench {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Moves on to the contents of field `number` of the message that ends where the stream's limit is; returns their size.
std::optional<int> Find(CodedInputStream& input, int number) {
  while (const std::uint32_t tag = input.ReadTag()) {
    const bool has_length = WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (has_length && WireFormatLite::GetTagFieldNumber(tag) == number) {
      int size = 0;
      if (!input.ReadVarintSizeAsInt(&size)) return std::nullopt;
      return size;
    }
    if (!WireFormatLite::SkipField(&input, tag)) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

std::optional<FieldPath> ParseFieldPath(const std::string& text) {
  FieldPath path;
  for (const absl::string_view part : absl::StrSplit(text, '.')) {
    int number = 0;
    if (!absl::SimpleAtoi(part, &number) || number < 1) return std::nullopt;
    path.push_back(number);
  }
  return path;
}

std::optional<std::string> BytesAt(const grpc::ByteBuffer& message, const FieldPath& path) {
  grpc::ByteBuffer shared = message;  // the reader asks for one that it could change, and does not
  grpc::ProtoBufferReader reader(&shared);
  CodedInputStream input(&reader);
  std::optional<int> size;
  for (const int number : path) {
    if (size.has_value()) input.PushLimit(*size);
    size = Find(input, number);
    if (!size.has_value()) return std::nullopt;
  }
  std::string bytes;
  if (!size.has_value() || !input.ReadString(&bytes, *size)) return std::nullopt;
  return bytes;
}

std::optional<double> SecondsAt(const grpc::ByteBuffer& message, const FieldPath& path) {
  const std::optional<std::string> bytes = BytesAt(message, path);
  google::protobuf::Duration duration;
  if (!bytes.has_value() || !duration.ParseFromString(*bytes)) return std::nullopt;
  return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
}

}  // namespace headlight::bench
