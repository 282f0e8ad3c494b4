// The Connect protocol for unary calls (connectrpc.com/docs/protocol), as a client of our own gRPC server: whatever
// holds for a call over gRPC holds for it here too, and is counted there.
#ifndef HEADLIGHT_SERVER_WEB_CONNECT_H_
#define HEADLIGHT_SERVER_WEB_CONNECT_H_

#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace headlight {

// Names in lower case.
using WebHeaders = std::vector<std::pair<std::string, std::string>>;

struct WebAnswer {
  int status = 200;
  std::string type;  // for Content-Type; empty: no body
  WebHeaders headers;
  std::string body;
};

// What comes before a request's body.
struct ConnectHead {
  std::string path;  // "/headlight.v1.AttentionService/Attend"
  WebHeaders headers;
  std::int64_t length = -1;  // of the body; -1: not said
};

struct ConnectLimits {
  std::int64_t json_bytes = std::int64_t{8} << 20;
  int json_depth = 32;
  std::int64_t message_bytes = std::int64_t{128} << 20;  // as application/proto
  std::int64_t held_bytes = std::int64_t{512} << 20;     // bodies and answers of all calls together
};

// Bytes held of those that all calls may hold together; gives them back. Movable.
class HeldBytes {
 public:
  HeldBytes(std::atomic<std::int64_t>& sum, std::int64_t most) : sum_(&sum), most_(most) {}
  HeldBytes(HeldBytes&& other) noexcept : sum_(other.sum_), most_(other.most_), held_(std::exchange(other.held_, 0)) {}
  ~HeldBytes() { sum_->fetch_sub(held_); }
  // False, and nothing more is held, where they would be too many.
  bool Add(std::int64_t bytes);

 private:
  std::atomic<std::int64_t>* sum_;
  std::int64_t most_;
  std::int64_t held_ = 0;
};

// Thread-safe.
class ConnectGateway {
 public:
  // For the unary calls of these services, whose messages are linked into the program, over `channel`, which must
  // neither retry nor bound messages.
  ConnectGateway(const std::shared_ptr<grpc::Channel>& channel, const std::vector<std::string>& services,
                 const ConnectLimits& limits);

  bool Has(const std::string& path) const { return methods_.count(path) != 0; }

  // How a call is refused before its body is read; nothing where it is not.
  std::optional<WebAnswer> Refuse(const ConnectHead& head) const;

  // Room for a body, to be asked for as it comes.
  HeldBytes Hold() const { return {held_, limits_.held_bytes}; }
  // How a body is refused of which so much came; nothing where it may go on. Adds it to `held`.
  std::optional<WebAnswer> RefuseBody(const ConnectHead& head, std::int64_t come, std::int64_t more,
                                      HeldBytes& held) const;

  // Calls and waits. REQUIRES: neither was refused. `gone` is asked now and then; once it is true the call is
  // cancelled.
  WebAnswer Call(const ConnectHead& head, std::string body, HeldBytes& held, const std::function<bool()>& gone) const;

 private:
  std::map<std::string, const google::protobuf::MethodDescriptor*> methods_;  // by path
  const ConnectLimits limits_;
  mutable std::atomic<std::int64_t> held_{0};
  mutable grpc::GenericStub stub_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_CONNECT_H_
