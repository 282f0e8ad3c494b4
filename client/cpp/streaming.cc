#include "client/cpp/streaming.h"

#include <grpcpp/support/client_callback.h>

#include <algorithm>
#include <cstring>
#include <map>
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

std::int64_t BytesOf(const v1::TensorSpec& spec) {
  if (spec.shape().empty()) return 0;  // there is none
  const std::vector<std::int64_t> shape(spec.shape().begin(), spec.shape().end());
  return ElementCount(shape).value_or(0) * WidthOf(spec.kind());
}

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

// An answer from its parts.
class Assembly {
 public:
  explicit Assembly(v1::AttendResponse* response) : response_(*response) {}

  void Take(v1::AttendStreamResponse* message) {
    switch (message->part_case()) {
      case v1::AttendStreamResponse::kAcceptance: return Accept(message->acceptance());
      case v1::AttendStreamResponse::kChunk: return TakeChunk(message->chunk());
      case v1::AttendStreamResponse::kMap: return TakeMap(message->mutable_map());
      case v1::AttendStreamResponse::kHeadStatistics:
        response_.mutable_head_statistics()->MergeFrom(message->head_statistics().heads());
        return;
      case v1::AttendStreamResponse::kEnd:
        ended_ = true;
        response_.mutable_execution()->Swap(message->mutable_end()->mutable_execution());
        return;
      default: return;
    }
  }

  bool complete() const {
    std::uint64_t numbers = 0;
    for (const v1::WeightMap& map : response_.maps()) numbers += map.form_case() != v1::WeightMap::FORM_NOT_SET;
    return ended_ && !broken_ && received_ == total_ && numbers == maps_;
  }
  std::uint64_t received() const { return received_; }
  std::uint64_t total() const { return total_; }

 private:
  v1::Tensor* ResultOf(v1::StreamedTensor name) {
    switch (name) {
      case v1::STREAMED_TENSOR_OUTPUT: return response_.mutable_output();
      case v1::STREAMED_TENSOR_LOG_SUM_EXP: return response_.mutable_log_sum_exp();
      default: return response_.mutable_head_outputs();
    }
  }

  void Accept(const v1::AttendStreamAcceptance& acceptance) {
    for (const v1::StreamedTensorSpec& result : acceptance.results()) {
      v1::Tensor* tensor = ResultOf(result.tensor());
      *tensor->mutable_shape() = result.spec().shape();
      std::string* data = MutableData(result.spec().kind(), tensor);
      data->resize(static_cast<std::size_t>(BytesOf(result.spec())));
      data_[result.tensor()] = data;
      total_ += data->size();
    }
    maps_ = acceptance.maps();
  }

  void TakeChunk(const v1::TensorChunk& chunk) {
    const auto found = data_.find(chunk.tensor());
    const std::size_t size = chunk.data().size();
    broken_ |=
        found == data_.end() || chunk.offset() > found->second->size() || size > found->second->size() - chunk.offset();
    if (broken_) return;
    std::memcpy(found->second->data() + chunk.offset(), chunk.data().data(), size);
    received_ += size;
  }

  // Blocks of a map come in order, those of different maps one map after the other.
  void TakeMap(v1::WeightMapBlock* block) {
    broken_ |= block->map() >= maps_;
    if (broken_) return;
    while (static_cast<std::uint64_t>(response_.maps_size()) <= block->map()) response_.add_maps();
    v1::WeightMap* map = response_.mutable_maps(static_cast<int>(block->map()));
    v1::WeightMap* part = block->mutable_part();
    if (block->first() == 0) return map->Swap(part);
    if (part->has_top_keys()) return map->mutable_top_keys()->MergeFrom(part->top_keys());
    v1::Tensor* weights = map->mutable_weights();
    weights->set_shape(0, weights->shape(0) + part->weights().shape(0));
    const absl::string_view more = DataOf(part->weights());
    MutableData(KindOf(part->weights()), weights)->append(more.data(), more.size());
  }

  v1::AttendResponse& response_;
  std::map<v1::StreamedTensor, std::string*> data_;
  std::uint64_t received_ = 0, total_ = 0, maps_ = 0;
  bool ended_ = false, broken_ = false;
};

// Deletes itself when it has ended.
class StreamCall final : public grpc::ClientBidiReactor<v1::AttendStreamRequest, v1::AttendStreamResponse> {
 public:
  StreamCall(const v1::AttendRequest& request, v1::AttendResponse* response, WatchStream watch,
             std::function<void(grpc::Status)> ended)
      : messages_(request), assembly_(response), watch_(std::move(watch)), ended_(std::move(ended)) {}

  void Begin(v1::AttentionService::Stub& stub, grpc::ClientContext* context) {
    stub.async()->AttendStream(context, this);
    {
      const absl::MutexLock lock(&writing_);
      StartRead(&answer_);
      Write();
    }
    StartCall();
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
    bool lost = false;
    {
      const absl::MutexLock lock(&reading_);
      lost = status.ok() && !assembly_.complete();
    }
    const auto ended = std::move(ended_);
    delete this;
    ended(lost ? grpc::Status(grpc::StatusCode::DATA_LOSS, "the stream ended before the whole answer had come")
               : status);
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
