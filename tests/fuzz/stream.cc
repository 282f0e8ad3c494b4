// Whole streamed calls, message by message and as bytes, without a connection: what fits is answered with the bits of
// Attend, all else is refused. Each input runs twice: as it is, and with chunks that fit its header.
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"
#include "server/service/attend_stream_call.h"
#include "server/service/stream_wire.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/small_server.h"
#include "tests/fuzz/stream.pb.h"

namespace headlight::fuzz {
namespace {

using Data = std::map<v1::StreamedTensor, std::string>;

// Of one input; larger ones are passed over. 600 x 600 are a map that takes two messages.
constexpr double kMostWork = 1e6;  // B x Hq x Tq x Tk x (D + Dv)

class Server final : public SmallServer {
 public:
  Server() : SmallServer(640, 1 << 17, 1 << 22) {}

  Shared& shared() { return shared_; }
};

bool IsLarge(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  return static_cast<double>(d.batch * d.query_heads * d.query_tokens * d.key_tokens) *
             static_cast<double>(d.head_size + d.value_head_size) >
         kMostWork;
}

// A message as it comes, and what protobuf makes of it: nullopt where it is none.
struct Incoming {
  std::string bytes;
  std::optional<v1::AttendStreamRequest> message;
};

std::vector<Incoming> SentBy(const StreamInput& input) {
  std::vector<Incoming> all;
  for (const Sent& sent : input.sent()) {
    Incoming& one = all.emplace_back();
    one.bytes = sent.has_raw() ? sent.raw() : sent.message().SerializeAsString();
    one.message.emplace();
    if (!one.message->ParseFromString(one.bytes)) one.message.reset();
  }
  return all;
}

// Null where there is none.
const v1::AttendStreamHeader* FirstHeader(const std::vector<Incoming>& sent) {
  const auto found = std::find_if(sent.begin(), sent.end(), [](const Incoming& one) {
    return one.message.has_value() && one.message->has_header();
  });
  return found == sent.end() ? nullptr : &found->message->header();
}

grpc::ByteBuffer InSlices(const std::string& bytes, std::size_t size) {
  constexpr std::size_t kMost = 64;
  size = size == 0 ? bytes.size() : std::max(size, bytes.size() / kMost);
  std::vector<grpc::Slice> slices;
  for (std::size_t at = 0; at < bytes.size(); at += size) slices.emplace_back(bytes.substr(at, size));
  return {slices.data(), slices.size()};
}

std::string WholeOf(const grpc::ByteBuffer& bytes) {
  std::vector<grpc::Slice> slices;
  Expect(bytes.Dump(&slices).ok(), "bytes can be read");
  std::string whole;
  for (const grpc::Slice& slice : slices) whole.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return whole;
}

// The tensor of an Attend that comes in chunks of this name.
v1::Tensor* TensorOf(v1::StreamedTensor name, v1::AttendRequest& request) {
  const auto given = [&request] { return request.mutable_query_key_value(); };
  const auto self = [&request] { return request.mutable_self_attention(); };
  const auto layer = [&self] { return self()->mutable_layer_weights(); };
  switch (name) {
    case v1::STREAMED_TENSOR_QUERY: return given()->mutable_query();
    case v1::STREAMED_TENSOR_KEY: return given()->mutable_key();
    case v1::STREAMED_TENSOR_VALUE: return given()->mutable_value();
    case v1::STREAMED_TENSOR_EMBEDDINGS: return self()->mutable_embeddings();
    case v1::STREAMED_TENSOR_CONTEXT: return self()->mutable_context();
    case v1::STREAMED_TENSOR_LAYER_QUERY: return layer()->mutable_query();
    case v1::STREAMED_TENSOR_LAYER_KEY: return layer()->mutable_key();
    case v1::STREAMED_TENSOR_LAYER_VALUE: return layer()->mutable_value();
    case v1::STREAMED_TENSOR_LAYER_OUTPUT: return layer()->mutable_output();
    case v1::STREAMED_TENSOR_LAYER_QUERY_BIAS: return layer()->mutable_query_bias();
    case v1::STREAMED_TENSOR_LAYER_KEY_BIAS: return layer()->mutable_key_bias();
    case v1::STREAMED_TENSOR_LAYER_VALUE_BIAS: return layer()->mutable_value_bias();
    case v1::STREAMED_TENSOR_LAYER_OUTPUT_BIAS: return layer()->mutable_output_bias();
    case v1::STREAMED_TENSOR_MASK: return request.mutable_options()->mutable_mask()->mutable_tensor();
    case v1::STREAMED_TENSOR_LEARNED_TABLE:
      return request.mutable_options()->mutable_position()->mutable_learned()->mutable_table();
    default: Expect(false, "inputs have names", v1::StreamedTensor_Name(name)); return nullptr;
  }
}

// Where a tensor's data is; `kind` counts where it has none.
std::string* DataOf(v1::Tensor& tensor, v1::TensorKind kind) {
  switch (kind) {
    case v1::TENSOR_KIND_F32: return tensor.mutable_f32_le();
    case v1::TENSOR_KIND_F16: return tensor.mutable_f16_le();
    case v1::TENSOR_KIND_BF16: return tensor.mutable_bf16_le();
    case v1::TENSOR_KIND_BOOL: return tensor.mutable_bool_u8();
    default: Expect(false, "tensors have kinds", v1::TensorKind_Name(kind)); return nullptr;
  }
}

std::size_t WidthOf(v1::TensorKind kind) {
  return kind == v1::TENSOR_KIND_F32 ? 4 : kind == v1::TENSOR_KIND_BOOL ? 1 : 2;
}

std::int64_t CountOf(const v1::TensorSpec& spec) {
  return ElementCount({spec.shape().begin(), spec.shape().end()}).value_or(0);
}

// The Attend of what a stream said and sent.
v1::AttendRequest RequestOf(const v1::AttendStreamHeader& header, const v1::AttendStreamAcceptance& acceptance,
                            const Data& data) {
  v1::PlanAttentionRequest call = header.call();
  call.clear_mask_tensor();
  call.clear_learned_table();
  call.clear_streamed();
  v1::AttendRequest request;  // has the same fields but for the data
  Expect(request.ParseFromString(call.SerializeAsString()), "a header has the fields of an Attend");
  *request.mutable_tokens() = header.tokens();
  for (const v1::StreamedTensorSpec& input : acceptance.inputs()) {
    v1::Tensor& tensor = *TensorOf(input.tensor(), request);
    *tensor.mutable_shape() = input.spec().shape();
    *DataOf(tensor, input.spec().kind()) = data.at(input.tensor());
  }
  return request;
}

// An answer that comes in parts: every byte, row and head that was announced once, then the end.
class Answer {
 public:
  const v1::AttendStreamAcceptance& acceptance() const { return acceptance_; }

  void Take(const v1::AttendStreamResponse& message) {
    Expect(accepted_ != message.has_acceptance(), "the acceptance comes first", message.ShortDebugString());
    Expect(!ended_, "nothing comes after the end", message.ShortDebugString());
    switch (message.part_case()) {
      case v1::AttendStreamResponse::kAcceptance: return Accept(message.acceptance());
      case v1::AttendStreamResponse::kChunk: return TakeChunk(message.chunk());
      case v1::AttendStreamResponse::kMap: return TakeMap(message.map());
      case v1::AttendStreamResponse::kHeadStatistics:
        return whole_.mutable_head_statistics()->MergeFrom(message.head_statistics().heads());
      case v1::AttendStreamResponse::kProgress: return TakeProgress(message.progress());
      case v1::AttendStreamResponse::kEnd:
        ended_ = true;
        return whole_.mutable_execution()->CopyFrom(message.end().execution());
      case v1::AttendStreamResponse::PART_NOT_SET: Expect(false, "a message has a part");
    }
  }

  v1::AttendResponse Whole() {
    Expect(ended_, "the end comes");
    for (auto& [name, result] : results_) {
      Expect(result.ready == std::map<std::int64_t, std::int64_t>{{0, result.bytes}}, "every byte comes", Name(name));
      v1::Tensor* tensor = name == v1::STREAMED_TENSOR_OUTPUT         ? whole_.mutable_output()
                           : name == v1::STREAMED_TENSOR_HEAD_OUTPUTS ? whole_.mutable_head_outputs()
                                                                      : whole_.mutable_log_sum_exp();
      *tensor->mutable_shape() = result.spec.shape();
      *DataOf(*tensor, result.spec.kind()) = std::move(result.data);
    }
    Expect(static_cast<std::uint64_t>(whole_.maps_size()) == acceptance_.maps(), "as many maps as announced");
    Expect(static_cast<std::uint64_t>(whole_.head_statistics_size()) == acceptance_.head_statistics(),
           "as many statistics as announced");
    return std::move(whole_);
  }

 private:
  struct Result {
    v1::TensorSpec spec;
    std::int64_t bytes;
    std::string data;
    std::map<std::int64_t, std::int64_t> ready = {};  // what came: begin to end, apart from each other
  };

  static std::string Name(v1::StreamedTensor name) { return v1::StreamedTensor_Name(name); }

  void Accept(const v1::AttendStreamAcceptance& acceptance) {
    accepted_ = true;
    acceptance_ = acceptance;
    for (const v1::StreamedTensorSpec& result : acceptance.results()) {
      const std::int64_t bytes = CountOf(result.spec()) * static_cast<std::int64_t>(WidthOf(result.spec().kind()));
      results_[result.tensor()] = {result.spec(), bytes, std::string(static_cast<std::size_t>(bytes), '\0')};
    }
  }

  void TakeChunk(const v1::TensorChunk& chunk) {
    const auto found = results_.find(chunk.tensor());
    Expect(found != results_.end(), "results were announced", Name(chunk.tensor()));
    Result& result = found->second;
    const auto size = static_cast<std::int64_t>(chunk.data().size());
    auto begin = static_cast<std::int64_t>(chunk.offset());
    std::int64_t end = begin + size;
    Expect(size >= 1 && size <= kMostChunkBytes && end <= result.bytes, "chunks are within their tensor",
           absl::StrCat(size, " at ", begin));
    std::copy(chunk.data().begin(), chunk.data().end(), result.data.begin() + begin);
    const auto next = result.ready.lower_bound(begin);
    const auto before = next == result.ready.begin() ? result.ready.end() : std::prev(next);
    Expect(next == result.ready.end() || end <= next->first, "no byte comes twice", absl::StrCat(begin));
    Expect(before == result.ready.end() || before->second <= begin, "no byte comes twice", absl::StrCat(begin));
    if (next != result.ready.end() && next->first == end) {
      end = next->second;
      result.ready.erase(next);
    }
    if (before != result.ready.end() && before->second == begin) begin = before->first;
    result.ready[begin] = end;
  }

  void TakeMap(const v1::WeightMapBlock& block) {
    const v1::WeightMap& part = block.part();
    const int rows = part.has_top_keys() ? part.top_keys().counts_size() : static_cast<int>(part.weights().shape(0));
    Expect(rows >= 1 && (rows == 1 || part.ByteSizeLong() <= static_cast<std::size_t>(kMostChunkBytes) + 512),
           "blocks have rows, and as many as fit", absl::StrCat(rows, " in ", part.ByteSizeLong(), " bytes"));
    if (block.first() == 0) {
      Expect(block.map() == static_cast<std::uint64_t>(whole_.maps_size()), "maps come in order");
      *whole_.add_maps() = part;
      map_rows_ = static_cast<std::uint64_t>(rows);
      return;
    }
    Expect(block.map() + 1 == static_cast<std::uint64_t>(whole_.maps_size()) && block.first() == map_rows_,
           "blocks of a map come in order", absl::StrCat(block.first(), " after ", map_rows_));
    map_rows_ += static_cast<std::uint64_t>(rows);
    v1::WeightMap& map = *whole_.mutable_maps(static_cast<int>(block.map()));
    if (map.has_top_keys()) return map.mutable_top_keys()->MergeFrom(part.top_keys());
    v1::Tensor weights = part.weights();
    const v1::TensorKind kind = weights.has_f32_le()   ? v1::TENSOR_KIND_F32
                                : weights.has_f16_le() ? v1::TENSOR_KIND_F16
                                                       : v1::TENSOR_KIND_BF16;
    map.mutable_weights()->set_shape(0, map.weights().shape(0) + rows);
    DataOf(*map.mutable_weights(), kind)->append(*DataOf(weights, kind));
  }

  void TakeProgress(const v1::AttendStreamProgress& progress) {
    Expect(progress.done_tiles() >= done_ && progress.done_tiles() <= progress.all_tiles(), "progress goes on",
           progress.ShortDebugString());
    done_ = progress.done_tiles();
  }

  v1::AttendStreamAcceptance acceptance_;
  bool accepted_ = false, ended_ = false;
  std::uint64_t done_ = 0, map_rows_ = 0;
  std::map<v1::StreamedTensor, Result> results_;
  v1::AttendResponse whole_;
};

// Its code and the fields of its violations. Which of several bad numbers is told of depends on the workers.
std::pair<absl::StatusCode, std::vector<std::string>> FailureOf(const absl::Status& status) {
  std::vector<std::string> fields;
  for (const Violation& violation : DetailsOf(status).violations) fields.push_back(violation.field);
  return {status.code(), fields};
}

// A client and a call.
class Conversation {
 public:
  Conversation(Server& server, const StreamInput& input)
      : server_(server), input_(input), sent_(SentBy(input)), call_(server.shared(), absl::InfiniteFuture(), [] {}) {}

  void Run() {
    while (taken_ < sent_.size()) {
      const Incoming& one = sent_[taken_];
      const absl::Status status = Take(one);
      if (!status.ok()) return ExpectRefusal(status);
      Expect(one.message.has_value() && call_.accepted(), "what is not refused is a message of an accepted call");
      if (one.message->has_chunk()) data_[one.message->chunk().tensor()] += one.message->chunk().data();
      if (one.message->has_header()) header_ = &one.message->header();
      if (one.message->has_commit()) return Compute();
      if (LooksNow()) Look(StreamPhase::kReceiving, /*tick=*/true);
      if (gone_) return;
    }
  }

 private:
  // The next of the bits that the input has for it.
  bool LooksNow() {
    if (looks_ == 64) return false;
    const std::uint64_t bit = input_.looks() >> looks_ & 1;
    ++looks_;
    return bit != 0;
  }

  absl::Status Take(const Incoming& one) {
    ++taken_;
    grpc::ByteBuffer bytes = InSlices(one.bytes, input_.slice());
    auto part = v1::AttendStreamRequest::PART_NOT_SET;
    absl::Status status = TakeBytes(bytes, call_, &part);
    Expect(!status.ok() || part == one.message->part_case(), "a message is of the part that it has");
    return status;
  }

  bool Look(StreamPhase phase, bool tick) {
    v1::AttendStreamResponse message;
    StreamResults::Piece piece;
    if (!call_.Next(phase, tick, &message, &piece)) return false;
    const std::string bytes = WholeOf(PackMessage(message, std::move(piece)));
    Expect(message.ParseFromString(bytes) && message.SerializeAsString() == bytes, "what is sent is a message");
    answer_.Take(message);
    if (++read_ == input_.drop_after()) GoAway();
    return true;
  }

  void GoAway() {
    gone_ = true;
    call_.control()->Cancel();
  }

  void Compute() {
    absl::Notification ended;
    absl::Status computed;
    call_.Compute([&](const absl::Status& status) {
      computed = status;
      ended.Notify();
    });
    if (taken_ < sent_.size()) {
      ExpectRefusal(Take(sent_[taken_]));
      GoAway();
    }
    while (!gone_ && !ended.HasBeenNotified()) {
      if (!Look(StreamPhase::kComputing, LooksNow())) ended.WaitForNotificationWithTimeout(absl::Microseconds(20));
    }
    ended.WaitForNotification();
    if (gone_ && absl::IsCancelled(computed)) return;
    if (!computed.ok()) {
      ExpectRefusal(computed);
    } else {
      call_.Computed();
      while (!gone_ && !call_.ended()) {
        Expect(Look(StreamPhase::kComputed, LooksNow()), "what was computed is sent to the end");
      }
    }
    if (!gone_) ExpectAsAttend(computed);
  }

  void ExpectAsAttend(const absl::Status& computed) {
    if (read_ == 0) Look(StreamPhase::kReceiving, /*tick=*/false);
    v1::AttendResponse wanted;
    const absl::Status status = server_.Attend(RequestOf(*header_, answer_.acceptance(), data_), &wanted);
    Expect(FailureOf(status) == FailureOf(computed), "a stream ends as an Attend does",
           absl::StrCat(status.ToString(), ", ", computed.ToString()));
    if (!computed.ok()) return;
    v1::AttendResponse got = answer_.Whole();
    const auto ran = [](v1::AttendResponse& response) {
      const v1::Execution run = response.execution();
      response.clear_execution();
      return std::make_pair(run.algorithm(), run.flops());
    };
    Expect(ran(got) == ran(wanted), "the same runs", got.execution().ShortDebugString());
    Expect(got.SerializeAsString() == wanted.SerializeAsString(), "the bits are those of Attend");
  }

  Server& server_;
  const StreamInput& input_;
  const std::vector<Incoming> sent_;
  AttendStreamCall call_;
  Answer answer_;
  Data data_;
  const v1::AttendStreamHeader* header_ = nullptr;
  std::size_t taken_ = 0;
  int looks_ = 0;
  std::uint32_t read_ = 0;
  bool gone_ = false;
};

// The chunks of the input again, as many and as large where that is possible, with all the data that the header asks
// for.
StreamInput Repaired(const StreamInput& input, v1::AttendStreamHeader header, const LayerStore& layers) {
  google::protobuf::RepeatedPtrField<v1::StreamedTensorSpec> declared;
  StreamInputs(Decode(header.call(), layers).request).Describe(&declared);
  Data data;
  std::mt19937 random(1);
  std::vector<std::size_t> sizes;
  for (const Sent& sent : input.sent()) {
    const v1::TensorChunk& chunk = sent.message().chunk();
    data[chunk.tensor()] += chunk.data();
    if (sent.message().has_chunk()) sizes.push_back(chunk.data().size());
  }
  StreamInput repaired = input;
  repaired.clear_sent();
  *repaired.add_sent()->mutable_message()->mutable_header() = std::move(header);
  std::vector<std::pair<v1::StreamedTensor, std::size_t>> left;  // and how much of it was sent
  for (const v1::StreamedTensorSpec& tensor : declared) {
    FitBytes(random, CountOf(tensor.spec()), WidthOf(tensor.spec().kind()), data[tensor.tensor()]);
    left.emplace_back(tensor.tensor(), 0);
  }
  for (std::size_t i = 0; !left.empty(); ++i) {
    const std::size_t turn = (i * 7 + sizes.size()) % left.size();
    auto& [name, sent] = left[turn];
    const std::string& whole = data[name];
    const std::size_t most = i < sizes.size() ? std::max<std::size_t>(sizes[i], 1) : whole.size();
    v1::TensorChunk& chunk = *repaired.add_sent()->mutable_message()->mutable_chunk();
    chunk.set_tensor(name);
    chunk.set_offset(sent);
    chunk.set_data(whole.substr(sent, most));
    sent += chunk.data().size();
    if (sent >= whole.size()) left.erase(left.begin() + static_cast<std::ptrdiff_t>(turn));
  }
  repaired.add_sent()->mutable_message()->mutable_commit();
  return repaired;
}

void RunStream(const StreamInput& input) {
  static auto& server = *new Server();
  const auto run = [](const StreamInput& messages) {
    Conversation(server, messages).Run();
    Expect(server.IsIdle(), "a stream gives back what it held");
  };
  const std::vector<Incoming> sent = SentBy(input);
  const v1::AttendStreamHeader* first = FirstHeader(sent);
  if (first == nullptr) return run(input);
  v1::AttendStreamHeader header = *first;
  const absl::StatusOr<ProblemSpec> spec = server.Check(Decode(header.call(), server.layers()));
  if (spec.ok() && IsLarge(*spec)) return;
  run(input);
  if (!spec.ok()) return;
  v1::AttentionOptions& options = *header.mutable_call()->mutable_options();
  if (options.mask().has_tensor()) options.mutable_mask()->mutable_tensor()->clear_data();
  if (options.position().learned().has_table())
    options.mutable_position()->mutable_learned()->mutable_table()->clear_data();
  run(Repaired(input, std::move(header), server.layers()));
}

}  // namespace

const google::protobuf::Message& Prototype() { return StreamInput::default_instance(); }

void Run(const google::protobuf::Message& message) { RunStream(static_cast<const StreamInput&>(message)); }

}  // namespace headlight::fuzz
