#include "client/cpp/streaming.h"

#include <grpcpp/support/client_callback.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/plan.h"
#include "client/cpp/stream_call.h"
#include "client/cpp/tensors.h"

namespace headlight::client {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 20;

// Calls f(name in chunks, tensor) for every tensor of a request, or f(name, spec) of a plan.
template <typename Message, typename F>
void ForTensors(const Message& message, const F& f) {
  const auto& given = message.query_key_value();
  if (given.has_query()) f(v1::STREAMED_TENSOR_QUERY, given.query());
  if (given.has_key()) f(v1::STREAMED_TENSOR_KEY, given.key());
  if (given.has_value()) f(v1::STREAMED_TENSOR_VALUE, given.value());
  const auto& self = message.self_attention();
  if (self.has_embeddings()) f(v1::STREAMED_TENSOR_EMBEDDINGS, self.embeddings());
  if (self.has_context()) f(v1::STREAMED_TENSOR_CONTEXT, self.context());
  const auto& layer = self.layer_weights();
  if (layer.has_query()) f(v1::STREAMED_TENSOR_LAYER_QUERY, layer.query());
  if (layer.has_key()) f(v1::STREAMED_TENSOR_LAYER_KEY, layer.key());
  if (layer.has_value()) f(v1::STREAMED_TENSOR_LAYER_VALUE, layer.value());
  if (layer.has_output()) f(v1::STREAMED_TENSOR_LAYER_OUTPUT, layer.output());
  if (layer.has_query_bias()) f(v1::STREAMED_TENSOR_LAYER_QUERY_BIAS, layer.query_bias());
  if (layer.has_key_bias()) f(v1::STREAMED_TENSOR_LAYER_KEY_BIAS, layer.key_bias());
  if (layer.has_value_bias()) f(v1::STREAMED_TENSOR_LAYER_VALUE_BIAS, layer.value_bias());
  if (layer.has_output_bias()) f(v1::STREAMED_TENSOR_LAYER_OUTPUT_BIAS, layer.output_bias());
}

void ForAllTensors(const v1::AttendRequest& request,
                   const std::function<void(v1::StreamedTensor, const v1::Tensor&)>& f) {
  ForTensors(request, f);
  const v1::AttentionOptions& options = request.options();
  if (options.mask().has_tensor()) f(v1::STREAMED_TENSOR_MASK, options.mask().tensor());
  if (options.position().learned().has_table()) {
    f(v1::STREAMED_TENSOR_LEARNED_TABLE, options.position().learned().table());
  }
}

std::int64_t WidthOf(v1::TensorKind kind) {
  switch (kind) {
    case v1::TENSOR_KIND_F32: return 4;
    case v1::TENSOR_KIND_F16:
    case v1::TENSOR_KIND_BF16: return 2;
    default: return 1;
  }
}

template <typename Tensor>
std::int64_t TokensOf(const Tensor& tensor) {
  return tensor.shape_size() < 2 ? 0 : tensor.shape(tensor.shape_size() - 2);
}

// Unset where no tensor has such a shape.
std::optional<std::int64_t> CheckedBytesOf(const v1::TensorSpec& spec) {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 60;
  if (spec.shape().empty()) return 0;  // there is none
  const std::vector<std::int64_t> shape(spec.shape().begin(), spec.shape().end());
  const std::optional<std::int64_t> count = ElementCount(shape);
  if (!count.has_value() || *count > kMostElements) return std::nullopt;
  return *count * WidthOf(spec.kind());
}

std::int64_t BytesOf(const v1::TensorSpec& spec) { return CheckedBytesOf(spec).value_or(0); }

// The bytes as chunks carry them. The contract is little-endian, and so is every machine that this is built for.
absl::string_view DataOf(const v1::Tensor& tensor) {
  switch (tensor.data_case()) {
    case v1::Tensor::kF32Values: {
      const auto& values = tensor.f32_values().values();
      return {reinterpret_cast<const char*>(values.data()), static_cast<std::size_t>(values.size()) * sizeof(float)};
    }
    case v1::Tensor::kF32Le: return tensor.f32_le();
    case v1::Tensor::kF16Le: return tensor.f16_le();
    case v1::Tensor::kBf16Le: return tensor.bf16_le();
    case v1::Tensor::kBoolU8: return tensor.bool_u8();
    case v1::Tensor::DATA_NOT_SET: break;
  }
  return {};
}

std::string* MutableData(v1::TensorKind kind, v1::Tensor* tensor) {
  if (kind == v1::TENSOR_KIND_F16) return tensor->mutable_f16_le();
  if (kind == v1::TENSOR_KIND_BF16) return tensor->mutable_bf16_le();
  return tensor->mutable_f32_le();
}

// The messages of a request, one after the other.
class Messages {
 public:
  explicit Messages(const v1::AttendRequest& request) : request_(request) {
    ForAllTensors(request, [this](v1::StreamedTensor name, const v1::Tensor& tensor) {
      const absl::string_view data = DataOf(tensor);
      if (!data.empty()) parts_.push_back({name, data});
      total_ += data.size();
    });
  }

  // False: the message is the last.
  bool Next(v1::AttendStreamRequest* message) {
    message->Clear();
    if (!begun_) {
      begun_ = true;
      v1::AttendStreamHeader* header = message->mutable_header();
      *header->mutable_call() = PlanRequestOf(request_);
      *header->mutable_tokens() = request_.tokens();
      return true;
    }
    if (part_ == parts_.size()) {
      message->mutable_commit();
      return false;
    }
    const Part& part = parts_[part_];
    v1::TensorChunk* chunk = message->mutable_chunk();
    chunk->set_tensor(part.name);
    chunk->set_offset(offset_);
    const absl::string_view data = part.data.substr(offset_, kChunkBytes);
    chunk->set_data(data.data(), data.size());
    offset_ += data.size();
    sent_ += data.size();
    if (offset_ == part.data.size()) {
      offset_ = 0;
      ++part_;
    }
    return true;
  }

  std::uint64_t sent() const { return sent_; }
  std::uint64_t total() const { return total_; }

 private:
  struct Part {
    v1::StreamedTensor name;
    absl::string_view data;
  };

  const v1::AttendRequest& request_;
  std::vector<Part> parts_;
  bool begun_ = false;
  std::size_t part_ = 0, offset_ = 0;
  std::uint64_t sent_ = 0, total_ = 0;
};

// What has come of a result.
struct Result {
  std::string* data = nullptr;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> chunks;  // begin and end
};

// Whether every byte has come, and none of them twice.
bool IsCovered(Result result) {
  std::sort(result.chunks.begin(), result.chunks.end());
  std::uint64_t end = 0;
  for (const auto& chunk : result.chunks) {
    if (chunk.first != end) return false;
    end = chunk.second;
  }
  return end == result.data->size();
}

std::uint64_t RowsOf(const v1::WeightMap& map) {
  return static_cast<std::uint64_t>(map.has_top_keys() ? map.top_keys().counts_size() : map.weights().shape(0));
}

// An answer from its parts.
class Assembly {
 public:
  Assembly(const v1::AttendRequest& request, v1::AttendResponse* response) : request_(request), response_(*response) {}

  void Take(v1::AttendStreamResponse* message) { broken_ = broken_ || ended_ || !Fits(message); }

  // Of a stream that the server has ended with OK.
  grpc::Status End() const {
    if (broken_) return {grpc::StatusCode::DATA_LOSS, "what the server sent does not fit together"};
    const bool all =
        ended_ && static_cast<std::uint64_t>(response_.maps_size()) == maps_ &&
        static_cast<std::uint64_t>(response_.head_statistics_size()) == heads_ &&
        std::all_of(results_.begin(), results_.end(), [](const auto& one) { return IsCovered(one.second); }) &&
        std::all_of(response_.maps().begin(), response_.maps().end(),
                    [this](const v1::WeightMap& map) { return IsWhole(map); });
    if (all) return grpc::Status::OK;
    return {grpc::StatusCode::DATA_LOSS, "the stream ended before the whole answer had come"};
  }
  std::uint64_t received() const { return received_; }
  std::uint64_t total() const { return total_; }

 private:
  // Takes a part; false: it cannot be one.
  bool Fits(v1::AttendStreamResponse* message) {
    if (accepted_ == message->has_acceptance()) return false;
    switch (message->part_case()) {
      case v1::AttendStreamResponse::kAcceptance: return Accept(message->acceptance());
      case v1::AttendStreamResponse::kChunk: return TakeChunk(message->chunk());
      case v1::AttendStreamResponse::kMap: return TakeMap(message->mutable_map());
      case v1::AttendStreamResponse::kHeadStatistics:
        response_.mutable_head_statistics()->MergeFrom(message->head_statistics().heads());
        return true;
      case v1::AttendStreamResponse::kEnd:
        ended_ = true;
        response_.mutable_execution()->Swap(message->mutable_end()->mutable_execution());
        return true;
      default: return true;
    }
  }

  v1::Tensor* ResultOf(v1::StreamedTensor name) {
    switch (name) {
      case v1::STREAMED_TENSOR_OUTPUT: return response_.mutable_output();
      case v1::STREAMED_TENSOR_LOG_SUM_EXP: return response_.mutable_log_sum_exp();
      case v1::STREAMED_TENSOR_HEAD_OUTPUTS: return response_.mutable_head_outputs();
      default: return nullptr;
    }
  }

  bool Accept(const v1::AttendStreamAcceptance& acceptance) {
    accepted_ = true;
    for (const v1::StreamedTensorSpec& result : acceptance.results()) {
      v1::Tensor* tensor = ResultOf(result.tensor());
      const std::optional<std::int64_t> bytes = CheckedBytesOf(result.spec());
      if (tensor == nullptr || !bytes.has_value() || results_.contains(result.tensor())) return false;
      *tensor->mutable_shape() = result.spec().shape();
      std::string* data = MutableData(result.spec().kind(), tensor);
      if (KindOf(*tensor) != result.spec().kind()) return false;
      data->resize(static_cast<std::size_t>(*bytes));
      results_[result.tensor()].data = data;
      total_ += data->size();
    }
    maps_ = acceptance.maps();
    heads_ = acceptance.head_statistics();
    return true;
  }

  bool TakeChunk(const v1::TensorChunk& chunk) {
    const auto found = results_.find(chunk.tensor());
    const std::size_t size = chunk.data().size();
    if (found == results_.end() || size == 0 || size > total_ - received_) return false;
    Result& result = found->second;
    if (chunk.offset() > result.data->size() || size > result.data->size() - chunk.offset()) return false;
    std::memcpy(result.data->data() + chunk.offset(), chunk.data().data(), size);
    result.chunks.emplace_back(chunk.offset(), chunk.offset() + size);
    received_ += size;
    return true;
  }

  // Blocks of a map come in order, those of different maps one map after the other.
  bool TakeMap(v1::WeightMapBlock* block) {
    v1::WeightMap* part = block->mutable_part();
    const auto begun = static_cast<std::uint64_t>(response_.maps_size());
    if (block->map() >= maps_ || part->form_case() == v1::WeightMap::FORM_NOT_SET) return false;
    if (part->has_weights() && part->weights().shape().empty()) return false;
    if (block->map() == begun && block->first() == 0) {
      response_.add_maps()->Swap(part);
      return true;
    }
    if (begun == 0 || block->map() != begun - 1) return false;
    v1::WeightMap* map = response_.mutable_maps(static_cast<int>(block->map()));
    if (block->first() != RowsOf(*map) || part->form_case() != map->form_case()) return false;
    if (part->has_top_keys()) {
      map->mutable_top_keys()->MergeFrom(part->top_keys());
      return true;
    }
    v1::Tensor* weights = map->mutable_weights();
    if (part->weights().data_case() != weights->data_case()) return false;
    weights->set_shape(0, static_cast<std::int64_t>(RowsOf(*map) + RowsOf(*part)));
    const absl::string_view more = DataOf(part->weights());
    MutableData(KindOf(part->weights()), weights)->append(more.data(), more.size());
    return true;
  }

  // Nothing says how many rows other maps than full ones and top keys have.
  bool IsWhole(const v1::WeightMap& map) const {
    const v1::Tensor& weights = map.weights();
    if (CheckedBytesOf(SpecOf(weights)) != static_cast<std::int64_t>(DataOf(weights).size())) return false;
    const auto index = static_cast<int>(map.request_index());
    if (index < 0 || index >= request_.outputs().maps_size()) return false;
    const v1::WeightMaps& asked = request_.outputs().maps(index);
    if (!asked.has_full() && !asked.has_top_keys()) return true;
    return map.row_begin() <= map.row_end() &&
           RowsOf(map) == static_cast<std::uint64_t>(map.row_end()) - static_cast<std::uint64_t>(map.row_begin());
  }

  const v1::AttendRequest& request_;
  v1::AttendResponse& response_;
  std::map<v1::StreamedTensor, Result> results_;
  std::uint64_t received_ = 0, total_ = 0, maps_ = 0, heads_ = 0;
  bool accepted_ = false, ended_ = false, broken_ = false;
};

// Deletes itself when it has ended.
class StreamCall final : public grpc::ClientBidiReactor<v1::AttendStreamRequest, v1::AttendStreamResponse> {
 public:
  StreamCall(const v1::AttendRequest& request, v1::AttendResponse* response, WatchStream watch,
             std::function<void(grpc::Status)> ended)
      : messages_(request), assembly_(request, response), watch_(std::move(watch)), ended_(std::move(ended)) {}

  void Begin(v1::AttentionService::Stub& stub, grpc::ClientContext* context) {
    stub.async()->AttendStream(context, this);
    AddHold();  // until all below has begun: the call may end meanwhile
    StartCall();
    {
      const absl::MutexLock lock(&writing_);
      StartRead(&answer_);
      Write();
    }
    RemoveHold();
  }

  void OnWriteDone(bool ok) override {
    const absl::MutexLock lock(&writing_);
    if (!ok || last_) return;
    Tell({StreamProgress::Stage::kSending, messages_.sent(), messages_.total()});
    Write();
  }

  void OnReadDone(bool ok) override {
    const absl::MutexLock lock(&reading_);
    if (!ok) return;
    assembly_.Take(&answer_);
    if (answer_.has_chunk()) Tell({StreamProgress::Stage::kReceiving, assembly_.received(), assembly_.total()});
    if (answer_.has_progress()) {
      Tell({StreamProgress::Stage::kComputing, answer_.progress().done_tiles(), answer_.progress().all_tiles()});
    }
    StartRead(&answer_);
  }

  void OnDone(const grpc::Status& status) override {
    grpc::Status outcome = status;
    if (status.ok()) {
      const absl::MutexLock lock(&reading_);
      outcome = assembly_.End();
    }
    const auto ended = std::move(ended_);
    delete this;
    ended(std::move(outcome));
  }

 private:
  void Write() {
    last_ = !messages_.Next(&message_);
    last_ ? StartWriteLast(&message_, grpc::WriteOptions()) : StartWrite(&message_);
  }

  void Tell(const StreamProgress& progress) {
    if (watch_ == nullptr) return;
    const absl::MutexLock lock(&telling_);
    watch_(progress);
  }

  Messages messages_;
  Assembly assembly_;
  const WatchStream watch_;
  std::function<void(grpc::Status)> ended_;
  v1::AttendStreamRequest message_;
  v1::AttendStreamResponse answer_;
  bool last_ = false;
  absl::Mutex telling_;
  // What one of gRPC's threads has done, and the next goes on with.
  absl::Mutex reading_, writing_;
};

}  // namespace

bool NeedsStream(const v1::AttendRequest& request) {
  std::int64_t tokens = request.self_attention().seeded_embeddings().tokens();
  std::int64_t bytes = 0;
  ForAllTensors(request, [&](v1::StreamedTensor /*name*/, const v1::Tensor& tensor) {
    tokens = std::max(tokens, TokensOf(tensor));
    bytes += static_cast<std::int64_t>(DataOf(tensor).size());
  });
  return tokens > kMostUnaryTokens || bytes > kMostUnaryBytes;
}

bool NeedsStream(const v1::PlanAttentionRequest& plan) {
  std::int64_t tokens = plan.self_attention().seeded_embeddings().tokens();
  std::int64_t bytes = BytesOf(plan.mask_tensor()) + BytesOf(plan.learned_table());
  ForTensors(plan, [&](v1::StreamedTensor /*name*/, const v1::TensorSpec& spec) {
    tokens = std::max(tokens, TokensOf(spec));
    bytes += BytesOf(spec);
  });
  return tokens > kMostUnaryTokens || bytes > kMostUnaryBytes;
}

void BeginStream(v1::AttentionService::Stub& stub, grpc::ClientContext* context, const v1::AttendRequest* request,
                 v1::AttendResponse* response, WatchStream watch, std::function<void(grpc::Status)> ended) {
  (new StreamCall(*request, response, std::move(watch), std::move(ended)))->Begin(stub, context);
}

}  // namespace headlight::client
