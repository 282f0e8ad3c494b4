// Calls in chunks, for tensors that one message does not carry. Client::Attend streams by itself where it must; this
// says when, and what a program can learn of such a call.
#ifndef HEADLIGHT_CLIENT_CPP_STREAMING_H_
#define HEADLIGHT_CLIENT_CPP_STREAMING_H_

#include <cstdint>
#include <functional>

#include "headlight/v1/attention_service.pb.h"

namespace headlight::client {

// Beyond these a call is streamed: what a server takes in one message unless its flags say otherwise is 128 MiB, of at
// most so many tokens.
inline constexpr std::int64_t kMostUnaryBytes = std::int64_t{120} << 20;
inline constexpr std::int64_t kMostUnaryTokens = 16'384;

// Whether a call is larger than that; likewise of its plan.
bool NeedsStream(const v1::AttendRequest& request);
bool NeedsStream(const v1::PlanAttentionRequest& plan);

// How far a streamed call is. Rows come while others are computed, so kComputing and kReceiving take turns.
struct StreamProgress {
  enum class Stage : std::uint8_t { kSending, kComputing, kReceiving };
  Stage stage = Stage::kSending;
  std::uint64_t done = 0;  // bytes of tensors; of kComputing tiles of scores
  std::uint64_t total = 0;
};

// Called on gRPC's threads, one after the other; it must not hold them up.
using WatchStream = std::function<void(const StreamProgress&)>;

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CPP_STREAMING_H_
