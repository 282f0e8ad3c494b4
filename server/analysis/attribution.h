// What a stack bets on after its last token, and who adds what to one word's logit: direct logit attribution ("A
// Mathematical Framework for Transformer Circuits", Elhage et al. 2021). In double, from the last token's row alone.
//
// The last row is a sum: embedding, each head's output times its rows of the output matrix, biases. The final norm
// takes away the mean, which is linear, and multiplies by a factor, which is taken as the number that it was; its bias
// counts with the biases. So the parts add up to the target's logit.
#ifndef HEADLIGHT_SERVER_ANALYSIS_ATTRIBUTION_H_
#define HEADLIGHT_SERVER_ANALYSIS_ATTRIBUTION_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "server/engine/stack_run.h"

namespace headlight {

// A word that may come next.
struct WordBet {
  std::int64_t id = 0;
  double logit = 0;
  double probability = 0;  // of the softmax over all words
};

// What a head adds to the target's logit; a head's own value bias is within its output.
struct HeadAttribution {
  std::int64_t layer = 0;
  std::int64_t head = 0;
  double logit = 0;
  double centered_logit = 0;  // less the mean of what it adds to all words
};

struct AttributionRequest {
  std::int64_t last_id = 0;            // of the last token
  std::int64_t bets = 0;               // at most V
  std::optional<std::int64_t> target;  // absent: the best bet
};

struct Attribution {
  std::vector<WordBet> bets;  // by falling logit, ties by id
  WordBet target;
  std::vector<HeadAttribution> heads;  // by layer, then head
  double embedding_logit = 0;          // of token and position
  double bias_logit = 0;               // of layers' outputs, final norm and unembedding
};

class AttributionWork final : public PhasedWork {
 public:
  // Runs after `run`. Everything outlives it.
  AttributionWork(const StackPlan& plan, const StackViews& stack, const StackRun& run,
                  const AttributionRequest& request, MemoryAccount& account)
      : PhasedWork(account, 0, absl::InfinitePast()), plan_(plan), stack_(stack), run_(run), request_(request) {}

  // When it has.
  const Attribution& result() const { return result_; }

 private:
  class Bets;
  class MeanWord;
  class Heads;

  void Build() override;
  // What a row adds to the target's logit: its product with `target_`. Likewise to the mean of all words.
  void MakeDirections();
  double OfRow(const float* row, const std::vector<double>& direction) const;
  void AttributeRest();

  const StackPlan& plan_;
  const StackViews& stack_;
  const StackRun& run_;
  const AttributionRequest request_;
  std::vector<double> mean_word_;             // [E], the unembedding's mean column
  std::vector<double> target_, other_words_;  // [E], through the final norm
  Attribution result_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_ATTRIBUTION_H_
