#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/files.h"
#include "client/cli/json.h"
#include "client/cli/npy.h"
#include "client/cli/parse_flags.h"
#include "client/cli/request_flags.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

// Reads `path` into `*tensor`, which the message makes only where a file was given.
template <typename MutableTensor>
absl::Status ReadInto(const std::string& path, v1::TensorKind kind, const MutableTensor& tensor) {
  if (path.empty()) return absl::OkStatus();
  absl::StatusOr<v1::Tensor> read = ReadTensor(path, kind);
  if (!read.ok()) return read.status();
  *tensor() = *std::move(read);
  return absl::OkStatus();
}

// The first failure of reading each path into its field.
absl::Status FirstError(std::initializer_list<absl::Status> statuses) {
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::AttendRequest> RequestFromJson(const std::string& path) {
  absl::StatusOr<std::string> json = path == "-" ? ReadStandardInput() : ReadFile(path);
  if (!json.ok()) return json.status();
  v1::AttendRequest request;
  const absl::Status parsed = FromJson(*json, &request);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path == "-" ? "standard input" : path, ": ", parsed.message()));
  }
  return request;
}

absl::Status FillQueryKeyValue(const InputFlags& flags, v1::TensorKind kind, v1::QueryKeyValue* input) {
  return FirstError({ReadInto(flags.query, kind, [&] { return input->mutable_query(); }),
                     ReadInto(flags.key, kind, [&] { return input->mutable_key(); }),
                     ReadInto(flags.value, kind, [&] { return input->mutable_value(); })});
}

absl::Status FillWeights(const InputFlags& flags, v1::TensorKind kind, v1::SelfAttention* input) {
  if (!flags.layer.empty()) input->set_layer(flags.layer);
  if (flags.seeded_weights.has_value()) input->mutable_seeded_weights()->set_seed(*flags.seeded_weights);
  if (!flags.weights_query.empty()) {
    v1::LayerWeights* w = input->mutable_layer_weights();
    return FirstError({ReadInto(flags.weights_query, kind, [&] { return w->mutable_query(); }),
                       ReadInto(flags.weights_key, kind, [&] { return w->mutable_key(); }),
                       ReadInto(flags.weights_value, kind, [&] { return w->mutable_value(); }),
                       ReadInto(flags.weights_output, kind, [&] { return w->mutable_output(); }),
                       ReadInto(flags.bias_query, kind, [&] { return w->mutable_query_bias(); }),
                       ReadInto(flags.bias_key, kind, [&] { return w->mutable_key_bias(); }),
                       ReadInto(flags.bias_value, kind, [&] { return w->mutable_value_bias(); }),
                       ReadInto(flags.bias_output, kind, [&] { return w->mutable_output_bias(); })});
  }
  if (input->weights_case() == v1::SelfAttention::WEIGHTS_NOT_SET) {
    return absl::InvalidArgumentError("embeddings need a layer: give --layer, --seeded-weights or --weights-query ...");
  }
  return absl::OkStatus();
}

absl::Status FillSelfAttention(const InputFlags& flags, v1::TensorKind kind, v1::SelfAttention* input) {
  if (!flags.seeded_embeddings.empty()) {
    v1::SeededEmbeddings* seeded = input->mutable_seeded_embeddings();
    seeded->set_seed(flags.seeded_embeddings[0]);
    seeded->set_tokens(static_cast<std::int64_t>(flags.seeded_embeddings[1]));
    seeded->set_width(static_cast<std::int64_t>(flags.seeded_embeddings[2]));
  }
  return FirstError({ReadInto(flags.embeddings, kind, [&] { return input->mutable_embeddings(); }),
                     ReadInto(flags.context, kind, [&] { return input->mutable_context(); }),
                     FillWeights(flags, kind, input)});
}

absl::Status FillInput(const InputFlags& flags, v1::TensorKind kind, v1::AttendRequest* request) {
  if (!flags.query.empty()) return FillQueryKeyValue(flags, kind, request->mutable_query_key_value());
  if (flags.HasEmbeddings()) return FillSelfAttention(flags, kind, request->mutable_self_attention());
  return absl::InvalidArgumentError(
      "no input: give --query, --key and --value, or --embeddings or --seeded-embeddings, or --request");
}

// Puts a list of numbers into its field, where the flag was given.
absl::Status FillIntegers(const char* flag, const std::string& text,
                          google::protobuf::RepeatedField<std::int64_t>* field) {
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<std::vector<std::int64_t>> values = ParseIntegers(flag, text);
  if (values.ok()) field->Assign(values->begin(), values->end());
  return values.status();
}

absl::Status FillFloats(const char* flag, const std::string& text, google::protobuf::RepeatedField<float>* field) {
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<std::vector<float>> values = ParseNumbers(flag, text);
  if (values.ok()) field->Assign(values->begin(), values->end());
  return values.status();
}

// The diagonal of a CausalMask or a WindowMask.
template <typename Rule>
absl::Status FillAlignment(const char* flag, const std::string& text, Rule* rule) {
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<Alignment> alignment = ParseAlignment(flag, text);
  if (!alignment.ok()) return alignment.status();
  rule->set_alignment(alignment->alignment);
  if (alignment->offset.has_value()) rule->set_offset(*alignment->offset);
  return absl::OkStatus();
}

absl::Status FillWindow(const OptionFlags& flags, v1::AttentionOptions* options) {
  if (flags.window.empty()) return absl::OkStatus();
  absl::StatusOr<v1::WindowMask> window = ParseWindow(flags.window);
  if (!window.ok()) return window.status();
  absl::Status status = FillAlignment("--window-alignment", flags.window_alignment, &*window);
  *options->mutable_mask()->mutable_window() = *std::move(window);
  return status;
}

absl::Status FillSegments(const OptionFlags& flags, v1::AttentionOptions* options) {
  if (flags.segments.empty()) return absl::OkStatus();
  v1::Segments* segments = options->mutable_mask()->mutable_segments();
  absl::Status status = FillIntegers("--segments", flags.segments, segments->mutable_query_ids());
  *segments->mutable_key_ids() = segments->query_ids();
  status.Update(FillIntegers("--key-segments", flags.key_segments, segments->mutable_key_ids()));
  return status;
}

absl::Status FillMask(const OptionFlags& flags, v1::AttentionOptions* options) {
  if (!flags.causal.empty()) {
    absl::Status status = FillAlignment("--causal", flags.causal, options->mutable_mask()->mutable_causal());
    if (!status.ok()) return status;
  }
  absl::Status status = FirstError({FillWindow(flags, options), FillSegments(flags, options)});
  if (!status.ok()) return status;
  if (!flags.key_lengths.empty()) {
    options->mutable_mask()->mutable_key_lengths()->Assign(flags.key_lengths.begin(), flags.key_lengths.end());
  }
  if (flags.mask.empty()) return absl::OkStatus();
  absl::StatusOr<v1::Tensor> mask = ReadTensor(flags.mask, v1::TENSOR_KIND_F32, true);
  if (!mask.ok()) return mask.status();
  *options->mutable_mask()->mutable_tensor() = *std::move(mask);
  return absl::OkStatus();
}

absl::Status CheckPositionFlags(const OptionFlags& flags) {
  const std::string& scheme = flags.position;
  const bool rotary = scheme == "rotary";
  const bool waves = rotary || scheme == "sinusoidal";
  const char* unused = nullptr;
  if (!flags.layout.empty() && !waves) unused = "--layout";
  if (flags.base.has_value() && !waves) unused = "--base";
  if (flags.rotary_size.has_value() && !rotary) unused = "--rotary-size";
  if (!flags.rotary_scaling.empty() && !rotary) unused = "--rotary-scaling";
  if (!flags.table.empty() && scheme != "learned") unused = "--table";
  if (!flags.slopes.empty() && scheme != "alibi") unused = "--slopes";
  if (unused == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(unused, " has no use with --position ", scheme));
}

v1::ChannelLayout LayoutNamed(const std::string& name) {
  if (name == "halves") return v1::CHANNEL_LAYOUT_HALVES;
  if (name == "interleaved") return v1::CHANNEL_LAYOUT_INTERLEAVED;
  return v1::CHANNEL_LAYOUT_UNSPECIFIED;
}

absl::Status FillPosition(const OptionFlags& flags, v1::PositionScheme* position) {
  if (absl::Status status = CheckPositionFlags(flags); !status.ok()) return status;
  if (flags.query_offset.has_value()) position->set_query_offset(*flags.query_offset);
  if (flags.key_offset.has_value()) position->set_key_offset(*flags.key_offset);
  absl::Status status =
      FirstError({FillIntegers("--query-positions", flags.query_positions, position->mutable_query_positions()),
                  FillIntegers("--key-positions", flags.key_positions, position->mutable_key_positions())});
  if (!status.ok()) return status;
  if (flags.position == "sinusoidal") {
    v1::SinusoidalPositions* scheme = position->mutable_sinusoidal();
    if (flags.base.has_value()) scheme->set_base(*flags.base);
    scheme->set_layout(LayoutNamed(flags.layout));
  } else if (flags.position == "learned") {
    v1::LearnedPositions* scheme = position->mutable_learned();
    return ReadInto(flags.table, v1::TENSOR_KIND_F32, [&] { return scheme->mutable_table(); });
  } else if (flags.position == "rotary") {
    v1::RotaryPositions* scheme = position->mutable_rotary();
    if (flags.base.has_value()) scheme->set_base(*flags.base);
    scheme->set_rotary_size(flags.rotary_size.value_or(0));
    scheme->set_layout(LayoutNamed(flags.layout));
    if (!flags.rotary_scaling.empty()) return ParseRotaryScaling(flags.rotary_scaling, scheme);
  } else if (flags.position == "alibi") {
    position->mutable_alibi()->mutable_slopes()->Assign(flags.slopes.begin(), flags.slopes.end());
  } else {
    position->mutable_none();
  }
  return absl::OkStatus();
}

absl::Status FillNumbers(const OptionFlags& flags, v1::AttentionOptions* options) {
  options->set_query_heads(flags.heads);
  options->set_key_value_heads(flags.kv_heads);
  options->set_head_size(flags.head_size);
  if (flags.scale.has_value()) options->set_scale(*flags.scale);
  if (flags.algorithm == "naive") options->set_algorithm(v1::ALGORITHM_NAIVE);
  if (flags.algorithm == "flash") options->set_algorithm(v1::ALGORITHM_FLASH);
  if (flags.softcap.has_value()) options->set_softcap(*flags.softcap);
  if (flags.precision == "float32") options->set_precision(v1::COMPUTE_PRECISION_FLOAT32);
  if (flags.precision == "bfloat16") options->set_precision(v1::COMPUTE_PRECISION_BFLOAT16);
  options->set_allow_non_finite(flags.allow_non_finite);
  return FirstError({FillFloats("--sinks", flags.sinks, options->mutable_sinks()),
                     FillFloats("--head-gains", flags.head_gains, options->mutable_head_gains())});
}

}  // namespace

v1::TensorKind KindNamed(const std::string& name) {
  if (name == "f16") return v1::TENSOR_KIND_F16;
  if (name == "bf16") return v1::TENSOR_KIND_BF16;
  return v1::TENSOR_KIND_F32;
}

absl::StatusOr<v1::Tensor> ReadTensor(const std::string& path, v1::TensorKind kind, bool allow_boolean) {
  const absl::StatusOr<NpyArray> array = ReadNpy(path);
  if (!array.ok()) return array.status();
  if (array->boolean && !allow_boolean) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": booleans where numbers belong"));
  }
  return client::MakeTensor(array->values, array->shape, array->boolean ? v1::TENSOR_KIND_BOOL : kind);
}

absl::Status FillOptions(const OptionFlags& flags, v1::AttendRequest* request) {
  v1::AttentionOptions* options = request->mutable_options();
  if (flags.priority == "batch") request->set_priority(v1::PRIORITY_BATCH);
  request->mutable_tokens()->Assign(flags.tokens.begin(), flags.tokens.end());
  return FirstError(
      {FillNumbers(flags, options), FillPosition(flags, options->mutable_position()), FillMask(flags, options)});
}

absl::StatusOr<v1::AttendRequest> BuildRequest(const RequestFlags& flags) {
  if (!flags.input.request.empty()) return RequestFromJson(flags.input.request);
  v1::AttendRequest request;
  absl::Status status = FirstError(
      {FillInput(flags.input, KindNamed(flags.options.kind), &request), FillOptions(flags.options, &request)});
  if (!status.ok()) return status;
  return request;
}

}  // namespace headlight::cli
