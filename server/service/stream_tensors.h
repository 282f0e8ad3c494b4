// Tensors of a streamed call: those that come in chunks, and those that go in chunks.
#ifndef HEADLIGHT_SERVER_SERVICE_STREAM_TENSORS_H_
#define HEADLIGHT_SERVER_SERVICE_STREAM_TENSORS_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "headlight/v1/attention_service.pb.h"
#include "server/engine/data.h"
#include "server/engine/watch.h"
#include "server/plan/planner.h"
#include "server/problem/request.h"
#include "server/service/ready_ranges.h"

namespace headlight {

// A chunk, of a request or of an answer, has at most so many bytes.
inline constexpr std::int64_t kMostChunkBytes = std::int64_t{1} << 20;

// Room that was not written, aligned to 64 bytes; on huge pages where it is large, for small ones take longer to get
// than to fill. Throws std::bad_alloc.
struct FreeRoom {
  void operator()(std::byte* room) const { std::free(room); }
};
using Room = std::unique_ptr<std::byte, FreeRoom>;
Room MakeRoom(std::int64_t bytes);

// Not thread-safe.
class StreamInputs {
 public:
  // What the request declares, without room for it.
  explicit StreamInputs(const ProblemRequest& request);

  // Bytes that are to come.
  std::int64_t bytes() const;
  // What is to come, for the client.
  void Describe(google::protobuf::RepeatedPtrField<v1::StreamedTensorSpec>* inputs) const;

  // Makes the room, and has `data` view it. REQUIRES: CheckProblem found the request sane. Throws std::bad_alloc.
  void Bind(AttentionData& data);
  // Where a chunk of so many bytes belongs; it counts as received. Errors: INVALID_ARGUMENT, all that is wrong with it.
  // REQUIRES: Bind.
  absl::StatusOr<std::byte*> Place(v1::StreamedTensor tensor, std::uint64_t offset, std::int64_t bytes);
  // Whether all came. Errors: INVALID_ARGUMENT, every tensor that is not complete.
  absl::Status Complete() const;

 private:
  struct Input {
    v1::StreamedTensor tensor;
    absl::string_view field;  // static text
    TensorForm form;
    std::int64_t bytes = 0;
    std::int64_t received = 0;
    Room room = nullptr;
  };

  void Declare(v1::StreamedTensor tensor, absl::string_view field, const std::optional<TensorForm>& form);

  std::vector<Input> inputs_;
};

// Results in room of their own, of which rows are sent as they are done. Thread-safe.
class StreamResults final : public RowListener {
 public:
  // `plan` outlives it. `enough` is called, on workers, where so much is ready that a message is worth while.
  // Throws std::bad_alloc.
  StreamResults(const ExecutionPlan& plan, std::function<void()> enough);

  // Where attention writes, and whom it tells.
  const Watch& watch() const { return watch_; }
  const TileCount& tiles() const { return tiles_; }
  void OnRows(std::int64_t batch, std::int64_t head, Range rows) override;
  // Everything lies where it belongs.
  void AllDone();

  // What will be sent, for the client.
  static void Describe(const ProblemSpec& spec, google::protobuf::RepeatedPtrField<v1::StreamedTensorSpec>* results);

  // Bytes of a result, and what keeps them.
  struct Piece {
    absl::string_view data;
    std::shared_ptr<const std::byte> owner;
  };
  // Fills `chunk` in, but for its data, which are returned: bytes that are ready, as many as a message is worth, or
  // `any`. nullopt: there are none.
  std::optional<Piece> Take(bool any, v1::TensorChunk* chunk);

 private:
  struct Result {
    v1::StreamedTensor tensor;
    std::int64_t row_bytes;  // of one head
    std::shared_ptr<std::byte> room;
    ReadyRanges ready = {};
  };

  // The output's rows that hold all heads, where these are done. Returns as ReadyRanges::Add, 0: there are none.
  std::int64_t CountHeads(Result& output, std::int64_t batch, Range rows) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ProblemSpec& spec_;
  const bool projects_output_;
  const std::function<void()> enough_;
  TileCount tiles_;
  Watch watch_;
  absl::Mutex mutex_;
  std::vector<Result> results_ ABSL_GUARDED_BY(mutex_);
  // Of each row of a token-major output how many heads are done.
  std::vector<std::uint16_t> heads_done_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_STREAM_TENSORS_H_
