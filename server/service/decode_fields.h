// The parts of Decode, private to this room. Each reports what only the wire can show: unknown enum numbers, required
// choices that are missing, and fields that this version does not compute.
#ifndef HEADLIGHT_SERVER_SERVICE_DECODE_FIELDS_H_
#define HEADLIGHT_SERVER_SERVICE_DECODE_FIELDS_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "headlight/v1/attention_service.pb.h"
#include "server/service/decode.h"

namespace headlight {

// Reports a missing or unknown choice.
void ReportChoice(ProblemRequest& request, absl::string_view field, int number, absl::string_view allowed);

// Form and view of a tensor; nullopt and an empty view where it is not set. A tensor without data counts as F32 of no
// bytes, which the check reports.
std::optional<TensorForm> DecodeTensor(bool is_set, const v1::Tensor& message, TensorView& view);

// Likewise without data: the view stays as it is, and no bytes are expected.
std::optional<TensorForm> DecodeTensor(bool is_set, const v1::TensorSpec& spec, TensorView& view);

// Reports a name or id of a layer or stack that none can have.
void CheckName(const std::string& field, const std::string& name, const Limits& limits, Violations& violations);

// NOT_FOUND for what `field` names: a "layer" or a "stack".
absl::Status NotFoundByName(absl::string_view field, const std::string& name, absl::string_view what);

void DecodeOptions(const v1::AttentionOptions& message, DecodedCall& call);
void DecodeOutputs(const v1::OutputSelection& message, ProblemRequest& request);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_DECODE_FIELDS_H_
