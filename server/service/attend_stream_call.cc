#include "server/service/attend_stream_call.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"
#include "server/service/encode.h"

namespace headlight {
namespace {

// Tensors within options come in chunks like all others.
void RefuseData(const v1::AttentionOptions& options, Violations& violations) {
  const auto refuse = [&violations](const char* field, const v1::Tensor& tensor) {
    if (tensor.data_case() == v1::Tensor::DATA_NOT_SET) return;
    violations.Add(field, "data in the header", "none: it comes in chunks");
  };
  refuse("options.mask.tensor.data", options.mask().tensor());
  refuse("options.position.learned.table.data", options.position().learned().table());
}

std::int64_t RowsOf(const MapResult& map) {
  return map.top_keys.k > 0 ? static_cast<std::int64_t>(map.top_keys.counts.size()) : map.weights.shape.front();
}

std::int64_t RowBytesOf(const MapResult& map) {
  if (map.top_keys.k > 0) return 4 + 8 * map.top_keys.k;
  return static_cast<std::int64_t>(map.weights.bytes.size()) / map.weights.shape.front();
}

// Rows first .. first + count - 1 of a map, as a map.
MapResult SliceOf(const MapResult& map, std::int64_t first, std::int64_t count) {
  MapResult slice;
  slice.request_index = map.request_index;
  slice.batch = map.batch;
  slice.head = map.head;
  slice.stage = map.stage;
  slice.rows = map.rows;
  slice.key_begin = map.key_begin;
  if (map.top_keys.k > 0) {
    const std::int64_t k = slice.top_keys.k = map.top_keys.k;
    const auto copy = [](const auto& from, std::int64_t begin, std::int64_t n, auto& to) {
      to.assign(from.begin() + begin, from.begin() + begin + n);
    };
    copy(map.top_keys.counts, first, count, slice.top_keys.counts);
    copy(map.top_keys.keys, first * k, count * k, slice.top_keys.keys);
    copy(map.top_keys.weights, first * k, count * k, slice.top_keys.weights);
    return slice;
  }
  const std::int64_t row_bytes = RowBytesOf(map);
  slice.weights.kind = map.weights.kind;
  slice.weights.shape = map.weights.shape;
  slice.weights.shape.front() = count;
  slice.weights.bytes.assign(map.weights.bytes, static_cast<std::size_t>(first * row_bytes),
                             static_cast<std::size_t>(count * row_bytes));
  return slice;
}

}  // namespace

absl::Status AttendStreamCall::CheckTurn(v1::AttendStreamRequest::PartCase part) const {
  Violations violations;
  const bool begins = part == v1::AttendStreamRequest::kHeader;
  if (part == v1::AttendStreamRequest::PART_NOT_SET) {
    violations.Add("part", "nothing", "header, chunk or commit");
  } else if (committed_) {
    violations.Add("part", "a message after the commit", "none: the commit is the last");
  } else if (begins && inputs_.has_value()) {
    violations.Add("header", "a second one", "one header, in the first message");
  } else if (!begins && !inputs_.has_value()) {
    violations.Add("header", "nothing", "a header, in the first message");
  }
  return violations.ToStatus();
}

absl::Status AttendStreamCall::Take(const v1::AttendStreamRequest& message) {
  if (message.has_chunk()) {
    const v1::TensorChunk& chunk = message.chunk();
    const std::string& data = chunk.data();
    const auto place = TakeChunk(chunk.tensor(), chunk.offset(), static_cast<std::int64_t>(data.size()));
    if (place.ok()) std::memcpy(*place, data.data(), data.size());
    return place.status();
  }
  if (absl::Status turn = CheckTurn(message.part_case()); !turn.ok()) return turn;
  return message.has_header() ? TakeHeader(message.header()) : Commit();
}

absl::StatusOr<std::byte*> AttendStreamCall::TakeChunk(v1::StreamedTensor tensor, std::uint64_t offset,
                                                       std::int64_t bytes) {
  if (absl::Status turn = CheckTurn(v1::AttendStreamRequest::kChunk); !turn.ok()) return turn;
  return inputs_->Place(tensor, offset, bytes);
}

absl::Status AttendStreamCall::TakeHeader(const v1::AttendStreamHeader& header) {
  DecodedCall decoded = Decode(header.call(), shared_.layers);
  decoded.request.tokens.assign(header.tokens().begin(), header.tokens().end());
  RefuseData(header.call().options(), decoded.request.violations);
  StreamInputs inputs(decoded.request);
  const CallTerms terms{inputs.bytes(), header.call().priority(), deadline_};
  if (absl::Status admitted = Admit(decoded, terms, StreamLimits(shared_.limits)); !admitted.ok()) return admitted;
  control()->SetReceiving(true);
  inputs.Bind(data_);
  inputs_ = std::move(inputs);
  Accepted(header);
  return absl::OkStatus();
}

void AttendStreamCall::Accepted(const v1::AttendStreamHeader& header) {
  auto& planned = *google::protobuf::Arena::CreateMessage<v1::PlanAttentionRequest>(&arena_);
  planned.CopyFrom(header.call());
  planned.set_streamed(true);
  acceptance_ = google::protobuf::Arena::CreateMessage<v1::AttendStreamAcceptance>(&arena_);
  // Was checked: this cannot fail.
  (void)PlanCall(shared_, planned, acceptance_->mutable_plan());
  inputs_->Describe(acceptance_->mutable_inputs());
  StreamResults::Describe(plan_->spec, acceptance_->mutable_results());
  std::uint64_t maps = 0;
  for (const MapSpec& map : plan_->spec.outputs.maps) maps += map.heads.size() * map.batches.size() * map.rows.size();
  acceptance_->set_maps(maps);
  const Dimensions& d = plan_->spec.dims;
  if (plan_->spec.outputs.head_statistics) {
    acceptance_->set_head_statistics(static_cast<std::uint64_t>(d.batch * d.query_heads));
  }
  accepts_ = true;
}

absl::Status AttendStreamCall::Commit() {
  if (absl::Status complete = inputs_->Complete(); !complete.ok()) return complete;
  results_.emplace(*plan_, enough_);
  MakeWork(absl::Now(), &results_->watch());
  committed_ = true;
  return absl::OkStatus();
}

void AttendStreamCall::Compute(ComputePool::Done done) {
  control()->SetReceiving(false);
  AttendCall::Compute(std::move(done));
}

void AttendStreamCall::Computed() {
  results_->AllDone();
  for (const std::unique_ptr<MapSink>& sink : sinks_) {
    for (MapResult& map : sink->TakeResults()) {
      map_bytes_ += RowsOf(map) * RowBytesOf(map);
      maps_.push_back(std::move(map));
    }
  }
  statistics_sent_ = !statistics_.has_value();
  Record(map_bytes_, absl::Now());
}

// Before any rows, so that whoever has some knows that others are computed; and once all are.
bool AttendStreamCall::MustTell(bool computed, bool tick) {
  const bool counted = results_->tiles().all.load(std::memory_order_relaxed) > 0;
  if (computed) return !std::exchange(told_all_, true) && counted;
  if (!tick && (told_ || !counted)) return false;
  told_ = counted;
  return true;
}

bool AttendStreamCall::NextProgress(v1::AttendStreamResponse* message) const {
  const TileCount& tiles = results_->tiles();
  const std::int64_t all = tiles.all.load(std::memory_order_relaxed);
  const std::int64_t done = told_all_ ? all : std::min(tiles.done.load(std::memory_order_relaxed), all);
  message->mutable_progress()->set_done_tiles(static_cast<std::uint64_t>(done));
  message->mutable_progress()->set_all_tiles(static_cast<std::uint64_t>(all));
  return true;
}

bool AttendStreamCall::NextMap(v1::WeightMapBlock* block) {
  MapResult& map = maps_[map_];
  const std::int64_t rows = RowsOf(map);
  const std::int64_t most = std::max<std::int64_t>(1, kMostChunkBytes / std::max<std::int64_t>(1, RowBytesOf(map)));
  const std::int64_t count = std::min(most, rows - map_row_);
  block->set_map(map_);
  block->set_first(static_cast<std::uint64_t>(map_row_));
  EncodeMap(SliceOf(map, map_row_, count), block->mutable_part());
  map_row_ += count;
  if (map_row_ < rows) return true;
  map = {};
  map_row_ = 0;
  ++map_;
  return true;
}

bool AttendStreamCall::Next(StreamPhase phase, bool tick, v1::AttendStreamResponse* message) {
  StreamResults::Piece piece;
  if (!Next(phase, tick, message, &piece)) return false;
  if (message->has_chunk()) message->mutable_chunk()->set_data(piece.data.data(), piece.data.size());
  return true;
}

bool AttendStreamCall::Next(StreamPhase phase, bool tick, v1::AttendStreamResponse* message,
                            StreamResults::Piece* piece) {
  message->Clear();
  if (accepts_) {
    accepts_ = false;
    message->mutable_acceptance()->CopyFrom(*acceptance_);
    return true;
  }
  if (phase == StreamPhase::kReceiving || ended_) return false;
  const bool computed = phase == StreamPhase::kComputed;
  if (tick && !computed) flushes_ = true;
  if (MustTell(computed, tick)) return NextProgress(message);
  if (auto ready = results_->Take(computed || flushes_, message->mutable_chunk()); ready.has_value()) {
    *piece = *std::move(ready);
    return true;
  }
  flushes_ = false;
  if (!computed) return false;
  if (map_ < maps_.size()) return NextMap(message->mutable_map());
  if (!statistics_sent_) {
    statistics_sent_ = true;
    EncodeStatistics(statistics_->results(), message->mutable_head_statistics()->mutable_heads());
    return true;
  }
  ended_ = true;
  EncodeRun(message->mutable_end()->mutable_execution());
  return true;
}

}  // namespace headlight
