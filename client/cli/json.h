// JSON on standard output: one document a call, in one line.
#ifndef HEADLIGHT_CLIENT_CLI_JSON_H_
#define HEADLIGHT_CLIENT_CLI_JSON_H_

#include <google/protobuf/message.h>

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "headlight/v1/attention_service.pb.h"

namespace headlight::cli {

// Prints a document and a newline. Text that is no UTF-8 is repaired with U+FFFD.
void PrintJson(const nlohmann::json& document);

// A message in protobuf's JSON mapping: the contract's names, fields at their default included, 64-bit integers as
// strings. INTERNAL where the message cannot be written.
absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message);

// Prints a message so, and a newline.
absl::Status PrintJson(const google::protobuf::Message& message);

// Fills `message` from that mapping (lowerCamelCase names are read too). INVALID_ARGUMENT: no JSON, an unknown field
// or a value of the wrong type.
absl::Status FromJson(absl::string_view json, google::protobuf::Message* message);

// Turns a tensor's bytes into f32_values, which JSON shows as numbers; the 16-bit kinds are widened.
// INVALID_ARGUMENT: the data do not fill the shape.
absl::Status SpellOut(v1::Tensor* tensor);

// The same for every tensor of an answer.
absl::Status SpellOut(v1::AttendResponse* response);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_JSON_H_
