// After attention: rectangles of scores or weights made once more, tile by tile, for sinks that need all rows' final
// weights or the scores before masks. Nothing larger than a tile is held.
#ifndef HEADLIGHT_SERVER_ENGINE_SWEEP_H_
#define HEADLIGHT_SERVER_ENGINE_SWEEP_H_

#include <cstdint>
#include <memory>

#include "server/engine/call.h"
#include "server/engine/phased_work.h"

namespace headlight {

// How many tiles it passes.
std::int64_t TilesOf(const CallState& call, const Sweep& sweep);

// Hands every sink its Sweeps(). `call` outlives it.
std::unique_ptr<Phase> MakeSweeps(CallState& call);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_SWEEP_H_
