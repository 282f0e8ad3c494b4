// Results that are sent while the call is still computed: where they go, and who is told.
#ifndef HEADLIGHT_SERVER_ENGINE_WATCH_H_
#define HEADLIGHT_SERVER_ENGINE_WATCH_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "server/problem/options.h"

namespace headlight {

// Tiles of scores of a call, those of sweeps included. Read by any thread while workers add.
struct TileCount {
  std::atomic<std::int64_t> done{0};
  std::atomic<std::int64_t> all{0};
};

class RowListener {
 public:
  virtual ~RowListener() = default;

  // Rows of one query head lie where they belong: in head outputs, log-sum-exp and, where no projection follows, the
  // output. Each row of each head comes once; from any worker, several at once.
  virtual void OnRows(std::int64_t batch, std::int64_t head, Range rows) = 0;
};

// All of it outlives the work. Room of the result's size and kind, or null where a result is not asked for; every byte
// is written if the work ends well.
struct Watch {
  std::byte* output = nullptr;
  std::byte* head_outputs = nullptr;
  std::byte* log_sum_exp = nullptr;
  RowListener* listener = nullptr;
  TileCount* tiles = nullptr;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_WATCH_H_
