// How much of each token a head could carry: the length of its value behind the output matrix.
#ifndef HEADLIGHT_SERVER_ENGINE_VALUE_LENGTHS_H_
#define HEADLIGHT_SERVER_ENGINE_VALUE_LENGTHS_H_

#include <memory>

#include "server/engine/call.h"
#include "server/engine/phased_work.h"
#include "server/engine/prepare.h"

namespace headlight {

// A phase that writes ||(x_j W_v + b_v) W_o|| of head h to lengths[h x Tk + j], with the head's own columns of W_v and
// rows of W_o; without an output matrix ||x_j W_v + b_v|| (Kobayashi et al. 2020, arXiv 2004.10102, section 3). Fails
// with INVALID_ARGUMENT where that leaves float32, unless non-finite numbers are allowed. REQUIRES: one batch; runs
// after the phases of AddProjection. All of them outlive it. Scratch: as a projection of the call's plan.
std::unique_ptr<Phase> MakeValueLengths(CallState& call, const Projection& projection, float* lengths);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_VALUE_LENGTHS_H_
