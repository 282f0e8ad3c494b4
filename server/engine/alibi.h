// Where ALiBi counts distances from.
#ifndef HEADLIGHT_SERVER_ENGINE_ALIBI_H_
#define HEADLIGHT_SERVER_ENGINE_ALIBI_H_

#include <memory>

#include "server/engine/call.h"
#include "server/engine/phased_work.h"

namespace headlight {

// A phase that fills call.alibi_bases: for each row of each head the distance of the key whose bias is its largest, the
// nearest key that it sees, or with a negative slope the farthest; 0 where it sees none. Biases count from there, so
// that they keep their digits where every visible key is far away. REQUIRES: positions of kind ALiBi; `call` outlives
// it.
std::unique_ptr<Phase> MakeAlibiBases(CallState& call);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_ALIBI_H_
