#include "server/service/stream_wire.h"

#include <google/protobuf/arena.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "server/base/errors.h"

namespace headlight {
namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

// Of a field in the wire format: its number and how its value is written.
constexpr std::uint32_t Tag(int field, std::uint32_t type) { return static_cast<std::uint32_t>(field) << 3 | type; }
constexpr std::uint32_t kVarint = 0, kLengthDelimited = 2;

// Takes a chunk as every protobuf library writes it: its fields in the order of their numbers, and nothing else.
// nullopt: it is no such message, and nothing was taken.
std::optional<absl::Status> TakePlainChunk(grpc::ByteBuffer& bytes, AttendStreamCall& call) {
  grpc::ProtoBufferReader reader(&bytes);
  CodedInputStream in(&reader);
  std::uint32_t size = 0, data_size = 0, tensor = 0;
  std::uint64_t offset = 0;
  if (in.ReadTag() != Tag(v1::AttendStreamRequest::kChunkFieldNumber, kLengthDelimited) || !in.ReadVarint32(&size) ||
      bytes.Length() != static_cast<std::size_t>(in.CurrentPosition()) + size) {
    return std::nullopt;
  }
  std::uint32_t tag = in.ReadTag();
  if (tag == Tag(v1::TensorChunk::kTensorFieldNumber, kVarint)) {
    if (!in.ReadVarint32(&tensor)) return std::nullopt;
    tag = in.ReadTag();
  }
  if (tag == Tag(v1::TensorChunk::kOffsetFieldNumber, kVarint)) {
    if (!in.ReadVarint64(&offset)) return std::nullopt;
    tag = in.ReadTag();
  }
  if (tag != Tag(v1::TensorChunk::kDataFieldNumber, kLengthDelimited) || !in.ReadVarint32(&data_size) ||
      bytes.Length() != static_cast<std::size_t>(in.CurrentPosition()) + data_size) {
    return std::nullopt;
  }
  const absl::StatusOr<std::byte*> place = call.TakeChunk(static_cast<v1::StreamedTensor>(tensor), offset, data_size);
  if (!place.ok()) return place.status();
  if (!in.ReadRaw(*place, static_cast<int>(data_size))) return absl::InternalError("a message is shorter than it was");
  return absl::OkStatus();
}

void LetGo(void* owner) { delete static_cast<std::shared_ptr<const std::byte>*>(owner); }

}  // namespace

absl::Status TakeBytes(grpc::ByteBuffer& bytes, AttendStreamCall& call, v1::AttendStreamRequest::PartCase* part) {
  *part = v1::AttendStreamRequest::kChunk;
  if (std::optional<absl::Status> taken = TakePlainChunk(bytes, call); taken.has_value()) return *std::move(taken);
  google::protobuf::Arena arena;
  auto& message = *google::protobuf::Arena::CreateMessage<v1::AttendStreamRequest>(&arena);
  grpc::ProtoBufferReader reader(&bytes);
  if (!message.ParseFromZeroCopyStream(&reader)) {
    Violations violations;
    violations.Add("part", "bytes that are no message", "an AttendStreamRequest");
    return violations.ToStatus();
  }
  *part = message.part_case();
  return call.Take(message);
}

grpc::ByteBuffer PackMessage(const v1::AttendStreamResponse& message, StreamResults::Piece piece) {
  if (piece.data.empty()) {
    const grpc::Slice whole(message.SerializeAsString());
    return {&whole, 1};
  }
  // All but the data, which are the last field of the last field.
  const std::string chunk = message.chunk().SerializeAsString();
  const auto data_size = static_cast<std::uint32_t>(piece.data.size());
  const std::size_t chunk_size = chunk.size() + 1 + CodedOutputStream::VarintSize32(data_size) + piece.data.size();
  std::string head;
  {
    google::protobuf::io::StringOutputStream stream(&head);
    CodedOutputStream out(&stream);
    out.WriteTag(Tag(v1::AttendStreamResponse::kChunkFieldNumber, kLengthDelimited));
    out.WriteVarint32(static_cast<std::uint32_t>(chunk_size));
    out.WriteString(chunk);
    out.WriteTag(Tag(v1::TensorChunk::kDataFieldNumber, kLengthDelimited));
    out.WriteVarint32(data_size);
  }
  auto owner = std::make_unique<std::shared_ptr<const std::byte>>(std::move(piece.owner));
  // gRPC does not write to what it sends.
  const grpc::Slice slices[] = {
      grpc::Slice(head), grpc::Slice(const_cast<char*>(piece.data.data()), piece.data.size(), &LetGo, owner.release())};
  return {slices, 2};
}

}  // namespace headlight
