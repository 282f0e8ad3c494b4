#include "server/web/connect.h"

#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/web/connect_error.h"
#include "server/web/connect_metadata.h"

namespace headlight {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::Message;
using google::protobuf::MessageFactory;

constexpr absl::Duration kLook = absl::Milliseconds(10);

enum class Codec : std::uint8_t { kJson, kProto };

std::optional<Codec> CodecOf(const ConnectHead& head) {
  const absl::string_view type = HeaderIn(head.headers, "content-type");
  const std::string name = absl::AsciiStrToLower(absl::StripAsciiWhitespace(type.substr(0, type.find(';'))));
  if (name == "application/json") return Codec::kJson;
  if (name == "application/proto") return Codec::kProto;
  return std::nullopt;
}

// What the request gives the call; none: as long as it takes. nullopt: no number of at most ten digits.
std::optional<absl::Duration> TimeoutOf(const ConnectHead& head) {
  constexpr std::size_t kMostDigits = 10;
  const absl::string_view text = HeaderIn(head.headers, "connect-timeout-ms");
  if (text.empty()) return absl::InfiniteDuration();
  std::int64_t milliseconds = 0;
  const bool digits = std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  if (!digits || text.size() > kMostDigits || !absl::SimpleAtoi(text, &milliseconds)) return std::nullopt;
  return absl::Milliseconds(milliseconds);
}

// How deep arrays and objects lie within one another.
int DepthOf(const std::string& json) {
  int depth = 0, most = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_text) {
      if (c == '\\') ++i;
      if (c == '"') in_text = false;
    } else if (c == '"') {
      in_text = true;
    } else if (c == '{' || c == '[') {
      most = std::max(most, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return most;
}

std::unique_ptr<Message> New(const google::protobuf::Descriptor* type) {
  return std::unique_ptr<Message>(MessageFactory::generated_factory()->GetPrototype(type)->New());
}

// Owns the bytes: where a call is given up, the server may still read them when the client's side has ended.
grpc::Slice SliceOf(std::string bytes) {
  auto* kept = new std::string(std::move(bytes));
  return {kept->data(), kept->size(), [](void* text) { delete static_cast<std::string*>(text); }, kept};
}

// The request's bytes as gRPC sends them; those of `body` where they are that already, else those put in `made`.
grpc::Status BytesOf(const google::protobuf::MethodDescriptor& method, Codec codec, const ConnectLimits& limits,
                     const std::string& body, std::string* made) {
  if (codec == Codec::kProto) return grpc::Status::OK;
  const auto wrong = [](const std::string& what) { return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, what); };
  if (DepthOf(body) > limits.json_depth) {
    return wrong(absl::StrCat("JSON nested deeper than ", limits.json_depth, " levels"));
  }
  const std::unique_ptr<Message> message = New(method.input_type());
  const auto read = google::protobuf::util::JsonStringToMessage(body, message.get());
  if (!read.ok()) return wrong(absl::StrCat("JSON: ", absl::string_view(read.message().data(), read.message().size())));
  message->SerializeToString(made);
  return grpc::Status::OK;
}

// The answer's body, or why it cannot be held.
grpc::Status BodyOf(const google::protobuf::MethodDescriptor& method, Codec codec, grpc::ByteBuffer* answer,
                    HeldBytes& held, std::string* body) {
  // JSON writes three bytes as four, beside the message and gRPC's bytes.
  const auto bytes = static_cast<std::int64_t>(answer->Length());
  if (!held.Add(codec == Codec::kJson ? 4 * bytes : 2 * bytes)) {
    return {grpc::StatusCode::RESOURCE_EXHAUSTED, "too much is being answered on this port; try again, or use gRPC"};
  }
  if (codec == Codec::kProto) {
    std::vector<grpc::Slice> slices;
    if (!answer->Dump(&slices).ok()) return {grpc::StatusCode::INTERNAL, "the answer cannot be read"};
    body->reserve(answer->Length());
    for (const grpc::Slice& slice : slices) body->append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    return grpc::Status::OK;
  }
  const std::unique_ptr<Message> message = New(method.output_type());
  grpc::ProtoBufferReader reader(answer);
  if (!message->ParseFromZeroCopyStream(&reader) || !google::protobuf::util::MessageToJsonString(*message, body).ok()) {
    return {grpc::StatusCode::INTERNAL, "the answer is no JSON"};
  }
  return grpc::Status::OK;
}

// What stands in a failure's trailers, as HTTP says it: the call's identity, and gRPC's pushback in whole seconds.
void AddFromTrailers(WebHeaders& headers) {
  const std::string identity(HeaderIn(headers, "trailer-x-request-id"));
  if (!identity.empty()) headers.emplace_back("x-request-id", identity);
  std::int64_t milliseconds = 0;
  if (absl::SimpleAtoi(HeaderIn(headers, "trailer-grpc-retry-pushback-ms"), &milliseconds)) {
    headers.emplace_back("retry-after", absl::StrCat((milliseconds + 999) / 1000));
  }
}

}  // namespace

bool HeldBytes::Add(std::int64_t bytes) {
  if (sum_->fetch_add(bytes) + bytes > most_) {
    sum_->fetch_sub(bytes);
    return false;
  }
  held_ += bytes;
  return true;
}

ConnectGateway::ConnectGateway(const std::shared_ptr<grpc::Channel>& channel, const std::vector<std::string>& services,
                               const ConnectLimits& limits)
    : limits_(limits), stub_(channel) {
  for (const std::string& name : services) {
    const auto* service = DescriptorPool::generated_pool()->FindServiceByName(name);
    for (int i = 0; service != nullptr && i < service->method_count(); ++i) {
      const auto* method = service->method(i);
      if (method->client_streaming() || method->server_streaming()) continue;
      methods_[absl::StrCat("/", name, "/", method->name())] = method;
    }
  }
}

std::optional<WebAnswer> ConnectGateway::Refuse(const ConnectHead& head) const {
  const std::optional<Codec> codec = CodecOf(head);
  if (!codec.has_value()) {
    return WebAnswer{415, "", {{"accept-post", "application/json, application/proto"}}, ""};
  }
  const absl::string_view version = HeaderIn(head.headers, "connect-protocol-version");
  if (!version.empty() && version != "1") {
    return ConnectError(grpc::StatusCode::INVALID_ARGUMENT, "connect-protocol-version: 1 is what there is");
  }
  const absl::string_view encoding = HeaderIn(head.headers, "content-encoding");
  if (!encoding.empty() && encoding != "identity") {
    return ConnectError(grpc::StatusCode::UNIMPLEMENTED, "content-encoding: identity is what is taken");
  }
  if (!TimeoutOf(head).has_value()) {
    return ConnectError(grpc::StatusCode::INVALID_ARGUMENT, "connect-timeout-ms: at most ten digits");
  }
  HeldBytes none = Hold();
  return RefuseBody(head, 0, std::max<std::int64_t>(head.length, 0), none);
}

std::optional<WebAnswer> ConnectGateway::RefuseBody(const ConnectHead& head, std::int64_t come, std::int64_t more,
                                                    HeldBytes& held) const {
  const bool json = CodecOf(head) == Codec::kJson;
  if (const std::int64_t most = json ? limits_.json_bytes : limits_.message_bytes; come + more > most) {
    return ConnectError(grpc::StatusCode::RESOURCE_EXHAUSTED,
                        absl::StrCat("a body of ", come + more, " bytes or more; at most ", most,
                                     json ? " as JSON: send application/proto, or use gRPC" : ""));
  }
  // As JSON they become a message and its bytes beside themselves.
  if (held.Add(json ? 3 * more : more)) return std::nullopt;
  WebAnswer busy = ConnectError(grpc::StatusCode::RESOURCE_EXHAUSTED, "too much is being sent to this port; try again");
  busy.headers.emplace_back("retry-after", "1");
  return busy;
}

WebAnswer ConnectGateway::Call(const ConnectHead& head, std::string body, HeldBytes& held,
                               const std::function<bool()>& gone) const {
  const google::protobuf::MethodDescriptor& method = *methods_.at(head.path);
  const Codec codec = CodecOf(head).value();
  std::string made;
  if (const grpc::Status read = BytesOf(method, codec, limits_, body, &made); !read.ok()) return ConnectError(read);
  const grpc::Slice bytes = SliceOf(std::move(codec == Codec::kProto ? body : made));
  const grpc::ByteBuffer request(&bytes, 1);
  grpc::ByteBuffer response;
  grpc::ClientContext context;
  AddMetadata(head.headers, &context);
  if (const absl::Duration timeout = *TimeoutOf(head); timeout != absl::InfiniteDuration()) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
  grpc::Status status;
  absl::Notification ended;
  stub_.UnaryCall(&context, head.path, grpc::StubOptions(), &request, &response, [&](grpc::Status end) {
    status = std::move(end);
    ended.Notify();
  });
  for (bool cancelled = false; !ended.WaitForNotificationWithTimeout(kLook);) {
    if (!cancelled && gone()) context.TryCancel();
    cancelled = cancelled || gone();
  }
  WebAnswer answer{200, codec == Codec::kJson ? "application/json" : "application/proto", {}, ""};
  // All that gRPC says of a message that it cannot read.
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && codec == Codec::kProto &&
      !New(method.input_type())->ParseFromArray(bytes.begin(), static_cast<int>(bytes.size()))) {
    status = {grpc::StatusCode::INVALID_ARGUMENT, absl::StrCat("the body is no ", method.input_type()->full_name())};
  }
  if (status.ok()) status = BodyOf(method, codec, &response, held, &answer.body);
  if (!status.ok()) answer = ConnectError(status);
  answer.headers = HeadersFrom(context);
  AddFromTrailers(answer.headers);
  return answer;
}

}  // namespace headlight
