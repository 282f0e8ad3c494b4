#include "server/web/connect_error.h"

#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>
#include <google/rpc/error_details.pb.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"

namespace headlight {
namespace {

using nlohmann::json;

struct Code {
  const char* name;
  int status;
};

// By gRPC's numbers.
constexpr std::array<Code, 17> kCodes = {{{"ok", 200},
                                          {"canceled", 499},
                                          {"unknown", 500},
                                          {"invalid_argument", 400},
                                          {"deadline_exceeded", 504},
                                          {"not_found", 404},
                                          {"already_exists", 409},
                                          {"permission_denied", 403},
                                          {"resource_exhausted", 429},
                                          {"failed_precondition", 400},
                                          {"aborted", 409},
                                          {"out_of_range", 400},
                                          {"unimplemented", 501},
                                          {"internal", 500},
                                          {"unavailable", 503},
                                          {"data_loss", 500},
                                          {"unauthenticated", 401}}};

// Null where the type is not known here.
json Readable(const std::string& type, const std::string& value) {
  const auto* descriptor = google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(type);
  if (descriptor == nullptr) return nullptr;
  const std::unique_ptr<google::protobuf::Message> message(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(descriptor)->New());
  std::string text;
  if (!message->ParseFromString(value) || !google::protobuf::util::MessageToJsonString(*message, &text).ok()) {
    return nullptr;
  }
  return json::parse(text, nullptr, /*allow_exceptions=*/false);
}

json Details(const std::string& serialized) {
  json details = json::array();
  google::rpc::Status rpc;
  if (!rpc.ParseFromString(serialized)) return details;
  for (const auto& any : rpc.details()) {
    const std::string type = any.type_url().substr(any.type_url().rfind('/') + 1);
    std::string value = absl::Base64Escape(any.value());
    while (!value.empty() && value.back() == '=') value.pop_back();
    json detail = {{"type", type}, {"value", value}};
    if (json readable = Readable(type, any.value()); !readable.is_null()) detail["debug"] = std::move(readable);
    details.push_back(std::move(detail));
  }
  return details;
}

}  // namespace

WebAnswer ConnectError(const grpc::Status& status) {
  const auto number = static_cast<std::size_t>(status.error_code());
  const Code& code = kCodes[number > 0 && number < kCodes.size() ? number : 2];
  json error = {{"code", code.name}};
  if (!status.error_message().empty()) error["message"] = status.error_message();
  if (json details = Details(status.error_details()); !details.empty()) error["details"] = std::move(details);
  return {code.status, "application/json", {}, error.dump(-1, ' ', false, json::error_handler_t::replace)};
}

WebAnswer ConnectError(grpc::StatusCode code, const std::string& message) {
  return ConnectError(grpc::Status(code, message));
}

}  // namespace headlight
