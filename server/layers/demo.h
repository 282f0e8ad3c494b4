// The built-in layer "demo": three heads whose weights can be explained, and the sentence they read. Nothing here is a
// result: the heads run through the same kernels as any layer.
//
// A word's embedding has 16 channels. The first 8 are 1 where the word has a property (Feature), the others are sines
// and cosines of its position at four frequencies (2 pi k / 24, k = 1..4). The product of two words' position channels
// is sum over k of cos(2 pi k (i - j) / 24): 4 for neighbours at distance 0, 3.04 at distance 1, 0.87 at distance 2.
// Turning the query's position channels back by one step moves that peak to the word before.
//   head 0  2.2 x (closeness to the word before)
//   head 1  6 where a verb meets a subject, 5 where an article meets a noun, 1.0 x (closeness)
//   head 2  6 where a pronoun meets a living noun, 0.8 x (closeness)
// Values are the 8 property channels; the output adds up what the three heads carried.
#ifndef HEADLIGHT_SERVER_LAYERS_DEMO_H_
#define HEADLIGHT_SERVER_LAYERS_DEMO_H_

#include <string>
#include <vector>

#include "server/base/tensor.h"
#include "server/layers/layer.h"

namespace headlight {

struct Demo {
  Layer layer;
  std::vector<std::string> tokens;
  OwnedTensor embeddings;                      // [tokens, 16] float32
  std::vector<std::string> head_descriptions;  // by head
};

// Made once. Thread-safe.
const Demo& GetDemo();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_DEMO_H_
