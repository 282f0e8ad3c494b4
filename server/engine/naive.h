// Attention by the formula: the whole grid of scores, a softmax over each row, the product with the values. It stays as
// the oracle that flash is held against.
#ifndef HEADLIGHT_SERVER_ENGINE_NAIVE_H_
#define HEADLIGHT_SERVER_ENGINE_NAIVE_H_

#include <memory>

#include "server/engine/call.h"
#include "server/engine/phased_work.h"

namespace headlight {

// Takes B x Hq x Tq x Tk floats of scratch on the call's account while it runs. `call` outlives it.
std::unique_ptr<Phase> MakeNaive(CallState& call);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_NAIVE_H_
