#include "server/service/inference_request.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/service/decode_fields.h"
#include "server/service/inference_parameters.h"

namespace headlight {
namespace {

using inference::ModelInferRequest;
using InputTensor = ModelInferRequest::InferInputTensor;
using OutputTensor = inference::ModelInferResponse::InferOutputTensor;

std::optional<TensorKind> KindOf(const std::string& datatype) {
  if (datatype == "FP32") return TensorKind::kF32;
  if (datatype == "FP16") return TensorKind::kF16;
  if (datatype == "BF16") return TensorKind::kBF16;
  if (datatype == "BOOL") return TensorKind::kBool;
  return std::nullopt;
}

// Form and view of input `i`, whose bytes are raw or, of FP32 and BOOL, typed.
std::optional<TensorForm> DecodeInput(const ModelInferRequest& message, int i, TensorView& view,
                                      Violations& violations) {
  const InputTensor& input = message.inputs(i);
  const std::string field = absl::StrCat("inputs.", input.name());
  const std::optional<TensorKind> kind = KindOf(input.datatype());
  if (!kind.has_value()) violations.Add(field + ".datatype", input.datatype(), "FP32, FP16, BF16 or, of a mask, BOOL");
  if (!input.parameters().empty()) {
    violations.Add(field + ".parameters", input.parameters().begin()->first, "none; tensors come within the request");
  }
  view.kind = kind.value_or(TensorKind::kF32);
  view.shape.assign(input.shape().begin(), input.shape().end());
  std::int64_t bytes = 0;
  const inference::InferTensorContents& contents = input.contents();
  const auto take = [&](const void* data, std::int64_t size) {
    view.data = static_cast<const std::byte*>(data);
    bytes = size;
  };
  if (i < message.raw_input_contents_size()) {
    take(message.raw_input_contents(i).data(), static_cast<std::int64_t>(message.raw_input_contents(i).size()));
  } else if (view.kind == TensorKind::kF32) {
    take(contents.fp32_contents().data(), contents.fp32_contents_size() * WidthOf(TensorKind::kF32));
  } else if (view.kind == TensorKind::kBool) {
    take(contents.bool_contents().data(), contents.bool_contents_size());
  }
  return TensorForm{view.kind, view.shape, bytes};
}

void DecodeInputs(const ModelInferRequest& message, DecodedCall& call) {
  Violations& violations = call.request.violations;
  if (message.raw_input_contents_size() != 0 && message.raw_input_contents_size() != message.inputs_size()) {
    violations.Add("raw_input_contents",
                   absl::StrCat(message.raw_input_contents_size(), " for ", message.inputs_size()),
                   "one for each input, or none");
  }
  QueryKeyValueForm form;
  for (int i = 0; i < message.inputs_size(); ++i) {
    const std::string& name = message.inputs(i).name();
    const auto decode = [&](std::optional<TensorForm>& to, TensorView& view) {
      if (to.has_value()) return violations.Add(absl::StrCat("inputs.", name), "a second one", "one");
      to = DecodeInput(message, i, view, violations);
    };
    if (name == "query")
      decode(form.query, call.data.query);
    else if (name == "key")
      decode(form.key, call.data.key);
    else if (name == "value")
      decode(form.value, call.data.value);
    else if (name == "mask")
      decode(call.request.mask.tensor, call.data.mask);
    else
      violations.Add(absl::StrCat("inputs[", i, "].name"), name, "query, key, value or mask");
  }
  call.request.input = std::move(form);
}

void DecodeRequestedOutputs(const ModelInferRequest& message, v1::OutputSelection* outputs, Violations& violations) {
  outputs->set_omit_output(message.outputs_size() > 0);
  for (int i = 0; i < message.outputs_size(); ++i) {
    const std::string& name = message.outputs(i).name();
    if (!message.outputs(i).parameters().empty()) {
      violations.Add(absl::StrCat("outputs[", i, "].parameters"), message.outputs(i).parameters().begin()->first,
                     "none");
    }
    if (name == "output")
      outputs->set_omit_output(false);
    else if (name == "log_sum_exp")
      outputs->set_log_sum_exp(true);
    else if (name == "head_outputs")
      outputs->set_head_outputs(true);
    else if (name == "weights" && outputs->maps_size() == 0)
      outputs->add_maps()->mutable_full();
    else if (name != "weights") {
      violations.Add(absl::StrCat("outputs[", i, "].name"), name, "output, log_sum_exp, head_outputs or weights");
    }
  }
}

void CheckModel(const ModelInferRequest& message, Violations& violations) {
  if (message.model_name() != kInferenceModel) violations.Add("model_name", message.model_name(), kInferenceModel);
  if (!message.model_version().empty() && message.model_version() != kInferenceVersion) {
    violations.Add("model_version", message.model_version(), absl::StrCat(kInferenceVersion, ", or nothing"));
  }
}

// The bytes of a tensor of ours, moved, and the name of their type.
std::pair<std::string, const char*> TakeBytes(v1::Tensor& tensor) {
  switch (tensor.data_case()) {
    case v1::Tensor::kF16Le: return {std::move(*tensor.mutable_f16_le()), "FP16"};
    case v1::Tensor::kBf16Le: return {std::move(*tensor.mutable_bf16_le()), "BF16"};
    default: return {std::move(*tensor.mutable_f32_le()), "FP32"};
  }
}

void AddOutput(const std::string& name, v1::Tensor&& tensor, inference::ModelInferResponse* response) {
  OutputTensor* output = response->add_outputs();
  output->set_name(name);
  output->mutable_shape()->Add(tensor.shape().begin(), tensor.shape().end());
  auto [bytes, datatype] = TakeBytes(tensor);
  output->set_datatype(datatype);
  response->add_raw_output_contents(std::move(bytes));
}

// The maps of all batches and heads as one tensor [B, H, Tq, Tk].
void AddWeights(v1::AttendResponse& answer, inference::ModelInferResponse* response) {
  OutputTensor* output = response->add_outputs();
  output->set_name("weights");
  std::string* all = response->add_raw_output_contents();
  for (v1::WeightMap& map : *answer.mutable_maps()) {
    auto [bytes, datatype] = TakeBytes(*map.mutable_weights());
    if (all->empty()) all->reserve(bytes.size() * static_cast<std::size_t>(answer.maps_size()));
    all->append(bytes);
    output->set_datatype(datatype);
  }
  const v1::WeightMap& last = *answer.maps().rbegin();
  for (const std::int64_t size :
       {static_cast<std::int64_t>(last.batch()) + 1, static_cast<std::int64_t>(last.head()) + 1,
        last.weights().shape(0), last.weights().shape(1)}) {
    output->add_shape(size);
  }
}

void AddParameters(const v1::Execution& execution, inference::ModelInferResponse* response) {
  auto& parameters = *response->mutable_parameters();
  parameters["algorithm"].set_string_param(v1::Algorithm_Name(execution.algorithm()));
  parameters["flops"].set_uint64_param(execution.flops());
  parameters["workspace_bytes"].set_uint64_param(execution.workspace_bytes());
  parameters["score_grid_bytes"].set_uint64_param(execution.score_grid_bytes());
}

}  // namespace

void DecodeInference(const ModelInferRequest& message, InferenceAsked* asked) {
  DecodedCall& call = asked->decoded;
  CheckModel(message, call.request.violations);
  DecodeParameters(message, asked);
  DecodeRequestedOutputs(message, asked->asked.mutable_outputs(), call.request.violations);
  DecodeOptions(asked->asked.options(), call);
  DecodeOutputs(asked->asked.outputs(), call.request);
  DecodeInputs(message, call);
}

absl::Status InTermsOfInference(const absl::Status& status) {
  absl::Status told = RenameFields(status, "query_key_value.", "inputs.");
  told = RenameFields(told, "options.mask.tensor", "inputs.mask");
  return RenameFields(told, "options.", "parameters.");
}

void EncodeInference(const ModelInferRequest& message, v1::AttendResponse&& answer,
                     inference::ModelInferResponse* response) {
  response->set_model_name(kInferenceModel);
  response->set_model_version(std::string(kInferenceVersion));
  response->set_id(message.id());
  AddParameters(answer.execution(), response);
  if (message.outputs_size() == 0) AddOutput("output", std::move(*answer.mutable_output()), response);
  for (const auto& asked : message.outputs()) {
    const auto is_same = [&](const OutputTensor& output) { return output.name() == asked.name(); };
    if (std::any_of(response->outputs().begin(), response->outputs().end(), is_same)) continue;
    if (asked.name() == "output") AddOutput("output", std::move(*answer.mutable_output()), response);
    if (asked.name() == "log_sum_exp") AddOutput("log_sum_exp", std::move(*answer.mutable_log_sum_exp()), response);
    if (asked.name() == "head_outputs") AddOutput("head_outputs", std::move(*answer.mutable_head_outputs()), response);
    if (asked.name() == "weights") AddWeights(answer, response);
  }
}

}  // namespace headlight
