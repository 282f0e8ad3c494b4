// The stack "induction", which is part of the program: trained weights in a file of our own scheme.
#ifndef HEADLIGHT_SERVER_LAYERS_BUILT_IN_H_
#define HEADLIGHT_SERVER_LAYERS_BUILT_IN_H_

#include "server/layers/layer_file.h"

namespace headlight {

// Read once, by the same way as every other file. Thread-safe.
const LayerFile& InductionStack();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_BUILT_IN_H_
