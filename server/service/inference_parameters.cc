#include "server/service/inference_parameters.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>

#include <limits>
#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace headlight {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using inference::InferParameter;

// Triton's clients write such by themselves, about streams and sequences; its protocol keeps the names for that.
constexpr char kOfTriton[] = "triton_";
constexpr char kKnown[] =
    "a field of AttentionOptions, as scale or mask.causal.alignment, or causal, options, priority, tensor_kind, "
    "timeout";

std::string Shown(const InferParameter& value) {
  switch (value.parameter_choice_case()) {
    case InferParameter::kBoolParam: return value.bool_param() ? "true" : "false";
    case InferParameter::kInt64Param: return absl::StrCat(value.int64_param());
    case InferParameter::kUint64Param: return absl::StrCat(value.uint64_param());
    case InferParameter::kDoubleParam: return absl::StrCat(value.double_param());
    case InferParameter::kStringParam: return absl::StrCat("\"", value.string_param(), "\"");
    case InferParameter::PARAMETER_CHOICE_NOT_SET: break;
  }
  return "nothing";
}

std::optional<std::int64_t> IntegerOf(const InferParameter& value) {
  if (value.has_int64_param()) return value.int64_param();
  if (value.has_uint64_param() && value.uint64_param() <= std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    return static_cast<std::int64_t>(value.uint64_param());
  }
  return std::nullopt;
}

std::optional<double> NumberOf(const InferParameter& value) {
  if (value.has_double_param()) return value.double_param();
  const std::optional<std::int64_t> integer = IntegerOf(value);
  if (!integer.has_value()) return std::nullopt;
  return static_cast<double>(*integer);
}

// By its name, in any case, with or without what all names of the enum begin with.
const EnumValueDescriptor* FindValue(const EnumDescriptor& type, const std::string& given) {
  const std::string name = absl::AsciiStrToUpper(given);
  const std::string unspecified = type.FindValueByNumber(0)->name();
  const std::string prefix = unspecified.substr(0, unspecified.rfind("UNSPECIFIED"));
  const EnumValueDescriptor* value = type.FindValueByName(name);
  return value != nullptr ? value : type.FindValueByName(prefix + name);
}

std::string NamesOf(const EnumDescriptor& type) {
  std::string names;
  for (int i = 1; i < type.value_count(); ++i) absl::StrAppend(&names, i == 1 ? "" : ", ", type.value(i)->name());
  return names;
}

// Sets the field. What was expected where the value is not of its type, else nothing.
std::string SetField(const InferParameter& value, const FieldDescriptor& field, Message* message) {
  const google::protobuf::Reflection& set = *message->GetReflection();
  const std::optional<std::int64_t> integer = IntegerOf(value);
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      if (!value.has_bool_param()) return "true or false";
      set.SetBool(message, &field, value.bool_param());
      return "";
    case FieldDescriptor::CPPTYPE_UINT32:
      if (!integer.has_value() || *integer < 0 || *integer > std::numeric_limits<std::uint32_t>::max()) {
        return "an integer from 0 to 4294967295";
      }
      set.SetUInt32(message, &field, static_cast<std::uint32_t>(*integer));
      return "";
    case FieldDescriptor::CPPTYPE_INT64:
      if (!integer.has_value()) return "an integer";
      set.SetInt64(message, &field, *integer);
      return "";
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      const std::optional<double> number = NumberOf(value);
      if (!number.has_value()) return "a number";
      set.SetDouble(message, &field, *number);
      return "";
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumValueDescriptor* named = FindValue(*field.enum_type(), value.string_param());
      if (!value.has_string_param() || named == nullptr) return NamesOf(*field.enum_type());
      set.SetEnum(message, &field, named);
      return "";
    }
    default: return "nothing by this name: it is for the parameter options";
  }
}

// The field at the end of a path of messages, where there is one that holds one value.
std::string SetPath(const std::string& path, const InferParameter& value, Message* message) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  for (std::size_t i = 0; i < names.size(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(names[i]);
    const bool last = i + 1 == names.size();
    if (field == nullptr || field->is_repeated()) return kKnown;
    if ((field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) == last) return kKnown;
    if (last) return SetField(value, *field, message);
    message = message->GetReflection()->MutableMessage(message, field);
  }
  return kKnown;
}

// As our own, or a number as Triton's clients send it: 1 is the highest, 0 the model's own.
std::string SetPriority(const InferParameter& value, v1::AttendRequest* request) {
  const std::optional<std::int64_t> number = IntegerOf(value);
  if (!number.has_value()) return SetField(value, *request->GetDescriptor()->FindFieldByName("priority"), request);
  if (*number < 0) return "a number from 0";
  request->set_priority(*number > 1 ? v1::PRIORITY_BATCH : v1::PRIORITY_INTERACTIVE);
  return "";
}

std::string SetTimeout(const InferParameter& value, absl::Duration* timeout) {
  const std::optional<std::int64_t> microseconds = IntegerOf(value);
  if (!microseconds.has_value() || *microseconds <= 0) return "microseconds, an integer from 1";
  *timeout = absl::Microseconds(*microseconds);
  return "";
}

std::string SetCausal(const InferParameter& value, v1::AttentionOptions* options) {
  if (!value.has_bool_param()) return "true or false";
  if (value.bool_param()) options->mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  return "";
}

std::string SetOptions(const InferParameter& value, v1::AttentionOptions* options) {
  if (!value.has_string_param()) return "AttentionOptions as JSON";
  const auto read = google::protobuf::util::JsonStringToMessage(value.string_param(), options);
  return read.ok() ? "" : absl::StrCat("AttentionOptions as JSON: ", std::string(read.message()));
}

// What was expected, or nothing where it is set.
std::string Set(const std::string& name, const InferParameter& value, InferenceAsked* asked) {
  v1::AttendRequest& request = asked->asked;
  if (name == "timeout") return SetTimeout(value, &asked->timeout);
  if (name == "causal") return SetCausal(value, request.mutable_options());
  if (name == "options") return SetOptions(value, request.mutable_options());
  if (name == "priority") return SetPriority(value, &request);
  if (name == "tensor_kind") return SetPath(name, value, request.mutable_outputs());
  return SetPath(name, value, request.mutable_options());
}

}  // namespace

void DecodeParameters(const inference::ModelInferRequest& message, InferenceAsked* asked) {
  const auto set = [asked](const std::string& name, const InferParameter& value) {
    const std::string expected = Set(name, value, asked);
    if (expected.empty()) return;
    asked->decoded.request.violations.Add(absl::StrCat("parameters.", name), Shown(value), expected);
  };
  const auto options = message.parameters().find("options");
  if (options != message.parameters().end()) set(options->first, options->second);
  for (const auto& [name, value] : message.parameters()) {
    if (name != "options" && !absl::StartsWith(name, kOfTriton)) set(name, value);
  }
}

}  // namespace headlight
