// Attention without the grid: tiles of keys pass by a block of query rows, and an online softmax keeps each row's
// largest score, sum and output up to date (Milakov & Gimelshein 2018; Dao et al., arXiv 2205.14135, algorithm 1).
#ifndef HEADLIGHT_SERVER_ENGINE_FLASH_H_
#define HEADLIGHT_SERVER_ENGINE_FLASH_H_

#include <memory>

#include "server/engine/call.h"
#include "server/engine/phased_work.h"

namespace headlight {

// Needs the lane's scratch alone, whatever the number of tokens. `call` outlives it.
std::unique_ptr<Phase> MakeFlash(CallState& call);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_FLASH_H_
