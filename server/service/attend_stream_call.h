// One AttendStream, without gRPC: takes messages, computes, gives messages.
#ifndef HEADLIGHT_SERVER_SERVICE_ATTEND_STREAM_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_ATTEND_STREAM_CALL_H_

#include <google/protobuf/arena.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "headlight/v1/attention_service.pb.h"
#include "server/service/pipeline.h"
#include "server/service/stream_tensors.h"

namespace headlight {

// How far a stream is: whether tensors still come, are computed with, or all results are there.
enum class StreamPhase : std::uint8_t { kReceiving, kComputing, kComputed };

// Take every message up to the commit, then Compute and, when `done` was called with OK, Computed. Next at any time, by
// one thread at a time: of the phase that is told it uses what the calls that led there have made. Otherwise not
// thread-safe.
class AttendStreamCall final : public AttendCall {
 public:
  // `enough` is called on workers when a message is worth while.
  AttendStreamCall(Shared& shared, absl::Time deadline, std::function<void()> enough)
      : AttendCall(shared), deadline_(deadline), enough_(std::move(enough)) {}

  // The header is checked, planned and admitted before any room is made. Errors: those of Attend; INVALID_ARGUMENT for
  // messages out of turn and chunks that do not fit.
  absl::Status Take(const v1::AttendStreamRequest& message);
  // Likewise of a chunk of so many bytes, which belong where the return value says.
  absl::StatusOr<std::byte*> TakeChunk(v1::StreamedTensor tensor, std::uint64_t offset, std::int64_t bytes);
  bool accepted() const { return inputs_.has_value(); }
  bool committed() const { return committed_; }

  // REQUIRES: committed.
  void Compute(ComputePool::Done done);
  void Computed();

  // Makes the message that is to go next; with `tick` one about progress, and then of results that are not many yet. A
  // chunk's data are in `piece` and not in the message. False: there is none now. Throws std::bad_alloc.
  bool Next(StreamPhase phase, bool tick, v1::AttendStreamResponse* message, StreamResults::Piece* piece);
  // Likewise, whole.
  bool Next(StreamPhase phase, bool tick, v1::AttendStreamResponse* message);
  // Whether the last one was given.
  bool ended() const { return ended_; }

  // Where the work is: until the commit in decoding.
  Stage stage() const { return computing() ? AttendCall::stage() : Stage::kDecode; }
  bool computing() const { return work_ != nullptr; }

 private:
  // What is wrong with a message of this part now.
  absl::Status CheckTurn(v1::AttendStreamRequest::PartCase part) const;
  absl::Status TakeHeader(const v1::AttendStreamHeader& header);
  void Accepted(const v1::AttendStreamHeader& header);
  absl::Status Commit();
  bool MustTell(bool computed, bool tick);
  bool NextProgress(v1::AttendStreamResponse* message) const;
  bool NextMap(v1::WeightMapBlock* block);

  const absl::Time deadline_;
  const std::function<void()> enough_;
  std::optional<StreamInputs> inputs_;
  bool committed_ = false;
  bool accepts_ = false;           // the acceptance is to go next
  bool flushes_ = false;           // results go however few they are
  bool told_ = false;              // how far it is, for the first time
  bool told_all_ = false;          // that all is computed
  google::protobuf::Arena arena_;  // elsewhere protobuf loses what it finds no memory to put into its place
  v1::AttendStreamAcceptance* acceptance_ = nullptr;
  std::optional<StreamResults> results_;
  // What goes when all is computed: maps, from a row of one of them on; statistics; the end.
  std::vector<MapResult> maps_;
  std::size_t map_ = 0;
  std::int64_t map_row_ = 0;
  std::int64_t map_bytes_ = 0;
  bool statistics_sent_ = false;
  bool ended_ = false;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_ATTEND_STREAM_CALL_H_
