// Stacks for tests, and what they make of a text in double, from the definition. Shares no code with the server but the
// structs.
#ifndef HEADLIGHT_TESTS_SUPPORT_STACKS_H_
#define HEADLIGHT_TESTS_SUPPORT_STACKS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/layers/stack.h"

namespace headlight::oracle {

// How large a stack is and what it has. Letters as in layers/stack.h.
struct StackSizes {
  std::int64_t width = 24, words = 37, positions = 0, layers = 2;
  std::int64_t query_heads = 2, key_value_heads = 2, head_size = 8, value_head_size = 6;
  bool norms = false, biases = false, output = true, causal = true, vocabulary = false;
};

// Random numbers of a scale at which logits are about 1; words are "w0", "w1", ...
std::shared_ptr<const Stack> RandomStack(const StackSizes& sizes, std::uint64_t seed = 1);

// "potter": two layers of two heads made by hand, 16 positions, the words below. Head 0 of layer 0 carries to each
// token the word before it; head 0 of layer 1 looks for where its word came before, and bets on what followed. The
// other heads spread evenly and carry nothing.
std::shared_ptr<const Stack> HandMadeInduction();
// "Mr and Mrs Potter thanked the driver ; then Mrs", all of whose words it knows.
std::vector<std::string> PotterWords();

// Layer and head.
using OffHeads = std::vector<std::pair<std::int64_t, std::int64_t>>;

struct ExactTrace {
  std::vector<std::vector<double>> maps;             // by layer: [Hq, T, T]
  std::vector<double> logits;                        // [T, V]
  std::vector<double> head_logits, centered_logits;  // by layer, then head
  double embedding_logit = 0, bias_logit = 0;
};
ExactTrace Solve(const Stack& stack, const std::vector<std::int64_t>& ids, const OffHeads& off, std::int64_t target);

}  // namespace headlight::oracle

#endif  // HEADLIGHT_TESTS_SUPPORT_STACKS_H_
