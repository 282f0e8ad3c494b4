#include "client/cli/json.h"

#include <google/protobuf/util/json_util.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {

void PrintJson(const nlohmann::json& document) {
  std::cout << document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
}

absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return absl::InternalError(status.ToString());
  return json;
}

absl::Status PrintJson(const google::protobuf::Message& message) {
  const absl::StatusOr<std::string> json = ToJson(message);
  if (json.ok()) std::cout << *json << "\n";
  return json.status();
}

absl::Status FromJson(absl::string_view json, google::protobuf::Message* message) {
  const auto status = google::protobuf::util::JsonStringToMessage({json.data(), json.size()}, message);
  if (!status.ok()) return absl::InvalidArgumentError(status.ToString());
  return absl::OkStatus();
}

absl::Status SpellOut(v1::Tensor* tensor) {
  const absl::StatusOr<std::vector<float>> values = client::FloatsOf(*tensor);
  if (!values.ok()) return values.status();
  tensor->mutable_f32_values()->mutable_values()->Assign(values->begin(), values->end());
  return absl::OkStatus();
}

absl::Status SpellOut(v1::AttendResponse* response) {
  std::vector<v1::Tensor*> tensors;
  if (response->has_output()) tensors.push_back(response->mutable_output());
  if (response->has_log_sum_exp()) tensors.push_back(response->mutable_log_sum_exp());
  if (response->has_head_outputs()) tensors.push_back(response->mutable_head_outputs());
  for (v1::WeightMap& map : *response->mutable_maps()) {
    if (map.has_weights()) tensors.push_back(map.mutable_weights());
  }
  for (v1::Tensor* tensor : tensors) {
    if (absl::Status status = SpellOut(tensor); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace headlight::cli
