#include "tests/fuzz/fuzz.h"

#include <google/protobuf/stubs/logging.h>
#include <google/rpc/error_details.pb.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "headlight/v1/attention_service.pb.h"
#include "server/base/errors.h"
#include "server/service/status.h"

namespace headlight::fuzz {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// Whether a violation's field leads to a field, or a choice between fields, of the message.
bool LeadsToField(const std::string& path, const Descriptor* message) {
  const std::vector<std::string> steps = absl::StrSplit(path, '.');
  for (const std::string& step : steps) {
    if (message == nullptr) return false;
    const std::size_t bracket = step.find('[');
    const std::string name = step.substr(0, bracket);
    if (message->FindOneofByName(name) != nullptr) return &step == &steps.back() && bracket == std::string::npos;
    const FieldDescriptor* field = message->FindFieldByName(name);
    if (field == nullptr || (bracket != std::string::npos && !field->is_repeated())) return false;
    message = field->message_type();
  }
  return true;
}

bool IsShortText(const std::string& text) {
  constexpr std::size_t kMost = 120;
  return !text.empty() && text.size() <= kMost &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

}  // namespace

void Expect(bool holds, absl::string_view what, absl::string_view details) {
  if (holds) return;
  std::fprintf(stderr, "not kept: %s\n", absl::StrCat(what, details.empty() ? "" : ": ", details).c_str());
  std::abort();
}

void ExpectRefusal(const absl::Status& status) {
  const std::string text = status.ToString();
  const ErrorDetails details = DetailsOf(status);
  if (status.code() == absl::StatusCode::kNotFound) {
    Expect(details.reason == ErrorReason::kLayerNotFound, "what is not found is a layer", text);
  } else {
    Expect(status.code() == absl::StatusCode::kInvalidArgument, "refusals are INVALID_ARGUMENT", text);
    Expect(!details.violations.empty(), "a refusal lists violations", text);
  }
  const auto kept = static_cast<std::int64_t>(details.violations.size());
  Expect(kept == std::min<std::int64_t>(details.violation_count, kMostViolations), "the first violations come", text);
  for (const Violation& violation : details.violations) {
    Expect(IsShortText(violation.field) && IsShortText(violation.got) && IsShortText(violation.expected),
           "texts of violations are short and printable", text);
    Expect(LeadsToField(violation.field, v1::AttendRequest::descriptor()) ||
               LeadsToField(violation.field, v1::PlanAttentionRequest::descriptor()) ||
               LeadsToField(violation.field, v1::AttendStreamRequest::descriptor()),
           "violations name fields", violation.field);
  }
  constexpr std::size_t kMostDetailBytes = 2048;
  const std::string sent = ToGrpcStatus(status).error_details();
  Expect(!sent.empty() && sent.size() <= kMostDetailBytes, "details fit", text);
  Expect(google::rpc::Status().ParseFromString(sent), "details are a message", text);
}

}  // namespace headlight::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const google::protobuf::LogSilencer silencer;  // of what it says about bytes that are no UTF-8
  const std::unique_ptr<google::protobuf::Message> message(headlight::fuzz::Prototype().New());
  if (message->ParseFromArray(data, static_cast<int>(size))) headlight::fuzz::Run(*message);
  return 0;
}
