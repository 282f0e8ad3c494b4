#include "server/service/stream_tensors.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"
#include "server/service/encode.h"

namespace headlight {
namespace {

// While a call is computed, a message waits until it has so much to say, or for the next tick.
constexpr std::int64_t kWorthSending = kMostChunkBytes / 4;

// 0 of what is larger than any limit, which the check refuses later.
std::int64_t BytesOf(const TensorForm& form) {
  constexpr std::int64_t kMost = std::int64_t{1} << 48;
  const std::int64_t count = ElementCount(form.shape).value_or(0);
  return count > kMost ? 0 : count * WidthOf(form.kind);
}

void EncodeForm(v1::StreamedTensor tensor, TensorKind kind, const Shape& shape, v1::StreamedTensorSpec* message) {
  message->set_tensor(tensor);
  message->mutable_spec()->mutable_shape()->Add(shape.begin(), shape.end());
  message->mutable_spec()->set_kind(EncodeKind(kind));
}

// Where the data of a tensor is viewed from.
TensorView& ViewOf(v1::StreamedTensor tensor, AttentionData& data) {
  switch (tensor) {
    case v1::STREAMED_TENSOR_QUERY: return data.query;
    case v1::STREAMED_TENSOR_KEY: return data.key;
    case v1::STREAMED_TENSOR_VALUE: return data.value;
    case v1::STREAMED_TENSOR_EMBEDDINGS: return data.embeddings;
    case v1::STREAMED_TENSOR_CONTEXT: return data.context;
    case v1::STREAMED_TENSOR_LAYER_QUERY: return data.layer.query;
    case v1::STREAMED_TENSOR_LAYER_KEY: return data.layer.key;
    case v1::STREAMED_TENSOR_LAYER_VALUE: return data.layer.value;
    case v1::STREAMED_TENSOR_LAYER_OUTPUT: return data.layer.output;
    case v1::STREAMED_TENSOR_LAYER_QUERY_BIAS: return data.layer.query_bias;
    case v1::STREAMED_TENSOR_LAYER_KEY_BIAS: return data.layer.key_bias;
    case v1::STREAMED_TENSOR_LAYER_VALUE_BIAS: return data.layer.value_bias;
    case v1::STREAMED_TENSOR_LAYER_OUTPUT_BIAS: return data.layer.output_bias;
    case v1::STREAMED_TENSOR_MASK: return data.mask;
    default: return data.position_table;
  }
}

std::string NameOfTensor(v1::StreamedTensor tensor) {
  return v1::StreamedTensor_IsValid(tensor) ? v1::StreamedTensor_Name(tensor)
                                            : absl::StrCat("number ", static_cast<int>(tensor));
}

}  // namespace

Room MakeRoom(std::int64_t bytes) {
  constexpr std::int64_t kHugePage = std::int64_t{2} << 20;
  const bool large = bytes >= 4 * kHugePage;
  const std::int64_t alignment = large ? kHugePage : 64;
  const auto size = static_cast<std::size_t>(RoundUp(std::max<std::int64_t>(bytes, 1), 64));
  void* room = nullptr;
  if (posix_memalign(&room, static_cast<std::size_t>(alignment), size) != 0) throw std::bad_alloc();
  if (large) (void)madvise(room, size, MADV_HUGEPAGE);  // what does not have them goes without
  return Room(static_cast<std::byte*>(room));
}

StreamInputs::StreamInputs(const ProblemRequest& request) {
  if (const auto* given = std::get_if<QueryKeyValueForm>(&request.input); given != nullptr) {
    Declare(v1::STREAMED_TENSOR_QUERY, "query_key_value.query", given->query);
    Declare(v1::STREAMED_TENSOR_KEY, "query_key_value.key", given->key);
    Declare(v1::STREAMED_TENSOR_VALUE, "query_key_value.value", given->value);
  }
  if (const auto* self = std::get_if<SelfAttentionForm>(&request.input); self != nullptr) {
    Declare(v1::STREAMED_TENSOR_EMBEDDINGS, "self_attention.embeddings", self->embeddings);
    Declare(v1::STREAMED_TENSOR_CONTEXT, "self_attention.context", self->context);
    if (self->weights == WeightsSource::kExplicit && self->layer.has_value()) {
      const LayerForm& layer = *self->layer;
      Declare(v1::STREAMED_TENSOR_LAYER_QUERY, "self_attention.layer_weights.query", layer.query);
      Declare(v1::STREAMED_TENSOR_LAYER_KEY, "self_attention.layer_weights.key", layer.key);
      Declare(v1::STREAMED_TENSOR_LAYER_VALUE, "self_attention.layer_weights.value", layer.value);
      Declare(v1::STREAMED_TENSOR_LAYER_OUTPUT, "self_attention.layer_weights.output", layer.output);
      Declare(v1::STREAMED_TENSOR_LAYER_QUERY_BIAS, "self_attention.layer_weights.query_bias", layer.query_bias);
      Declare(v1::STREAMED_TENSOR_LAYER_KEY_BIAS, "self_attention.layer_weights.key_bias", layer.key_bias);
      Declare(v1::STREAMED_TENSOR_LAYER_VALUE_BIAS, "self_attention.layer_weights.value_bias", layer.value_bias);
      Declare(v1::STREAMED_TENSOR_LAYER_OUTPUT_BIAS, "self_attention.layer_weights.output_bias", layer.output_bias);
    }
  }
  Declare(v1::STREAMED_TENSOR_MASK, "options.mask.tensor", request.mask.tensor);
  Declare(v1::STREAMED_TENSOR_LEARNED_TABLE, "options.position.learned.table", request.position.table);
}

void StreamInputs::Declare(v1::StreamedTensor tensor, absl::string_view field, const std::optional<TensorForm>& form) {
  if (form.has_value()) inputs_.push_back({tensor, field, *form, BytesOf(*form)});
}

std::int64_t StreamInputs::bytes() const {
  std::int64_t bytes = 0;
  for (const Input& input : inputs_) bytes += input.bytes;
  return bytes;
}

void StreamInputs::Describe(google::protobuf::RepeatedPtrField<v1::StreamedTensorSpec>* inputs) const {
  for (const Input& input : inputs_) EncodeForm(input.tensor, input.form.kind, input.form.shape, inputs->Add());
}

void StreamInputs::Bind(AttentionData& data) {
  for (Input& input : inputs_) {
    input.room = MakeRoom(input.bytes);
    ViewOf(input.tensor, data) = {input.form.kind, input.form.shape, input.room.get()};
  }
}

absl::StatusOr<std::byte*> StreamInputs::Place(v1::StreamedTensor tensor, std::uint64_t offset, std::int64_t bytes) {
  const auto found =
      std::find_if(inputs_.begin(), inputs_.end(), [tensor](const Input& input) { return input.tensor == tensor; });
  Violations violations;
  if (found == inputs_.end()) {
    violations.Add("chunk.tensor", NameOfTensor(tensor), "a tensor of the header");
  }
  if (bytes < 1 || bytes > kMostChunkBytes) {
    violations.Add("chunk.data", absl::StrCat(bytes, " bytes"), absl::StrCat("1 to ", kMostChunkBytes, " bytes"));
  }
  if (found != inputs_.end()) {
    if (offset != static_cast<std::uint64_t>(found->received)) {
      violations.Add("chunk.offset", absl::StrCat(offset, " of ", found->field),
                     absl::StrCat(found->received, ": chunks of a tensor go on where the one before ended"));
    } else if (bytes > found->bytes - found->received && bytes <= kMostChunkBytes) {
      violations.Add("chunk.data", absl::StrCat(bytes, " bytes at ", found->received, " of ", found->field),
                     absl::StrCat("at most ", found->bytes - found->received, ": the header declared ", found->bytes));
    }
  }
  if (!violations.empty()) return violations.ToStatus();
  found->received += bytes;
  return found->room.get() + offset;
}

absl::Status StreamInputs::Complete() const {
  Violations violations;
  for (const Input& input : inputs_) {
    if (input.received == input.bytes) continue;
    violations.Add(
        std::string(input.field), absl::StrCat(input.received, " bytes in chunks before the commit"),
        absl::StrCat(input.bytes, " bytes for ", ToString(input.form.shape), " of ", NameOf(input.form.kind)));
  }
  return violations.ToStatus();
}

StreamResults::StreamResults(const ExecutionPlan& plan, std::function<void()> enough)
    : spec_(plan.spec),
      projects_output_(spec_.projection.has_value() && spec_.projection->output_width > 0),
      enough_(std::move(enough)) {
  const absl::MutexLock lock(&mutex_);
  const Dimensions& d = spec_.dims;
  const std::int64_t rows = d.batch * d.query_heads * d.query_tokens;
  const std::int64_t row_bytes = d.value_head_size * WidthOf(spec_.outputs.kind);
  const auto add = [this](v1::StreamedTensor tensor, std::int64_t of_row, std::int64_t bytes) {
    return results_.emplace_back(Result{tensor, of_row, MakeRoom(bytes)}).room.get();
  };
  if (spec_.outputs.output) {
    const std::int64_t bytes = ElementCount(spec_.OutputShape()).value_or(0) * WidthOf(spec_.outputs.kind);
    watch_.output = add(v1::STREAMED_TENSOR_OUTPUT, row_bytes, bytes);
    const bool token_major = spec_.layout == HeadLayout::kTokenMajor || spec_.projection.has_value();
    if (!projects_output_ && token_major) heads_done_.resize(static_cast<std::size_t>(d.batch * d.query_tokens));
  }
  if (spec_.outputs.head_outputs) {
    watch_.head_outputs = add(v1::STREAMED_TENSOR_HEAD_OUTPUTS, row_bytes, rows * row_bytes);
  }
  if (spec_.outputs.log_sum_exp) {
    watch_.log_sum_exp = add(v1::STREAMED_TENSOR_LOG_SUM_EXP, sizeof(float), rows * std::int64_t{sizeof(float)});
  }
  watch_.listener = this;
  watch_.tiles = &tiles_;
}

void StreamResults::OnRows(std::int64_t batch, std::int64_t head, Range rows) {
  bool enough = false;
  {
    const absl::MutexLock lock(&mutex_);
    const std::int64_t first = (batch * spec_.dims.query_heads + head) * spec_.dims.query_tokens;
    for (Result& result : results_) {
      std::int64_t ready = 0;
      if (result.tensor == v1::STREAMED_TENSOR_OUTPUT && projects_output_) continue;
      if (result.tensor == v1::STREAMED_TENSOR_OUTPUT && !heads_done_.empty()) {
        ready = CountHeads(result, batch, rows);
      } else {
        ready = result.ready.Add({(first + rows.begin) * result.row_bytes, (first + rows.end) * result.row_bytes});
      }
      enough |= ready >= kWorthSending;
    }
  }
  if (enough) enough_();
}

std::int64_t StreamResults::CountHeads(Result& output, std::int64_t batch, Range rows) {
  const Dimensions& d = spec_.dims;
  const std::int64_t row_bytes = d.query_heads * output.row_bytes;
  std::int64_t ready = 0;
  for (std::int64_t row = batch * d.query_tokens + rows.begin; row < batch * d.query_tokens + rows.end; ++row) {
    if (++heads_done_[static_cast<std::size_t>(row)] < d.query_heads) continue;
    ready = std::max(ready, output.ready.Add({row * row_bytes, (row + 1) * row_bytes}));
  }
  return ready;
}

void StreamResults::AllDone() {
  const absl::MutexLock lock(&mutex_);
  if (!projects_output_ || !spec_.outputs.output) return;
  results_.front().ready.Add({0, ElementCount(spec_.OutputShape()).value_or(0) * WidthOf(spec_.outputs.kind)});
}

void StreamResults::Describe(const ProblemSpec& spec,
                             google::protobuf::RepeatedPtrField<v1::StreamedTensorSpec>* results) {
  const Dimensions& d = spec.dims;
  const OutputSpec& outputs = spec.outputs;
  const Shape rows = {d.batch, d.query_heads, d.query_tokens};
  if (outputs.output) EncodeForm(v1::STREAMED_TENSOR_OUTPUT, outputs.kind, spec.OutputShape(), results->Add());
  if (outputs.head_outputs) {
    const Shape shape = {rows[0], rows[1], rows[2], d.value_head_size};
    EncodeForm(v1::STREAMED_TENSOR_HEAD_OUTPUTS, outputs.kind, shape, results->Add());
  }
  if (outputs.log_sum_exp) EncodeForm(v1::STREAMED_TENSOR_LOG_SUM_EXP, TensorKind::kF32, rows, results->Add());
}

std::optional<StreamResults::Piece> StreamResults::Take(bool any, v1::TensorChunk* chunk) {
  const absl::MutexLock lock(&mutex_);
  for (Result& result : results_) {
    const std::optional<Range> range = result.ready.Take(any ? 1 : kWorthSending, kMostChunkBytes);
    if (!range.has_value()) continue;
    chunk->set_tensor(result.tensor);
    chunk->set_offset(static_cast<std::uint64_t>(range->begin));
    const auto* data = reinterpret_cast<const char*>(result.room.get() + range->begin);
    return Piece{{data, static_cast<std::size_t>(range->size())}, result.room};
  }
  return std::nullopt;
}

}  // namespace headlight
