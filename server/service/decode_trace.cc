#include "server/service/decode_trace.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/service/decode_fields.h"

namespace headlight {
namespace {

constexpr std::int64_t kUsualBets = 5;
constexpr std::int64_t kMostBets = 64;
// Of a bet or a token in the answer, beside its word.
constexpr std::int64_t kBetBytes = 48;

const float* FloatsOf(const OwnedTensor& tensor) { return tensor.empty() ? nullptr : tensor.floats(); }

NormView ViewOf(const NormWeights& norm) { return {FloatsOf(norm.weight), FloatsOf(norm.bias)}; }

using WordIds = std::unordered_map<std::string_view, std::int64_t>;

// The ids of the words that a request has; -1: the stack does not know it.
WordIds Look(const v1::TraceStackRequest& request, const Stack& stack) {
  WordIds ids;
  for (const std::string& token : request.tokens()) ids.emplace(token, -1);
  if (!request.target().empty()) ids.emplace(request.target(), -1);
  std::size_t left = ids.size();
  for (std::size_t id = 0; id < stack.vocabulary.size() && left > 0; ++id) {
    const auto found = ids.find(stack.vocabulary[id]);
    if (found == ids.end()) continue;
    found->second = static_cast<std::int64_t>(id);
    --left;
  }
  return ids;
}

class Decoder {
 public:
  Decoder(const v1::TraceStackRequest& request, const Stack* stack, const Limits& limits)
      : request_(request), stack_(stack), limits_(limits) {}

  absl::StatusOr<DecodedTrace> Decode() {
    CheckName("stack", request_.stack(), limits_, violations_);
    CheckBets();
    if (!v1::Priority_IsValid(request_.priority())) {
      violations_.Add("priority", absl::StrCat("number ", request_.priority()), "INTERACTIVE or BATCH");
    }
    if (!request_.target().empty() && request_.has_target_id()) {
      violations_.Add("target", "target and target_id", "one of the two, or neither");
    }
    if (CheckCount() && stack_ != nullptr) DecodeWords();
    if (stack_ != nullptr) DecodeOff();
    if (!violations_.empty()) return violations_.ToStatus();
    if (stack_ == nullptr) return NotFoundByName("stack", request_.stack(), "stack");
    return std::move(trace_);
  }

 private:
  void CheckBets() {
    const std::int64_t bets = request_.bets();
    trace_.attribution.bets = bets == 0 ? kUsualBets : bets;
    if (bets <= kMostBets) return;
    violations_.AddTooExpensive("bets", absl::StrCat(bets), absl::StrCat("0 to ", kMostBets));
  }

  // Whether there is a text, of a length that the stack takes.
  bool CheckCount() {
    const bool has_words = !request_.tokens().empty();
    const bool has_ids = !request_.token_ids().empty();
    const std::string field = has_ids && !has_words ? "token_ids" : "tokens";
    if (has_words == has_ids) {
      violations_.Add(field, has_words ? "tokens and token_ids" : "nothing", "tokens or token_ids");
      return false;
    }
    const std::int64_t count = has_words ? request_.tokens_size() : request_.token_ids_size();
    const std::int64_t positions = stack_ == nullptr ? 0 : stack_->positions();
    if (count > limits_.max_tokens) {
      violations_.AddTooExpensive(field, absl::StrCat(count, " tokens"), absl::StrCat("1 to ", limits_.max_tokens));
      return false;
    }
    if (positions > 0 && count > positions) {
      violations_.Add(field, absl::StrCat(count, " tokens"),
                      absl::StrCat("1 to ", positions, ", the positions that the stack has"));
      return false;
    }
    trace_.wish.tokens = count;
    return true;
  }

  void DecodeWords() {
    const bool speaks = !stack_->vocabulary.empty();
    if (!speaks && !request_.tokens().empty()) {
      violations_.Add("tokens", "words", "token_ids: the stack has no words");
    }
    if (!speaks && !request_.target().empty()) {
      violations_.Add("target", "a word", "target_id: the stack has no words");
    }
    const WordIds words = speaks ? Look(request_, *stack_) : WordIds();
    for (int i = 0; speaks && i < request_.tokens_size(); ++i) {
      trace_.ids.push_back(IdOf(absl::StrCat("tokens[", i, "]"), request_.tokens(i), words));
    }
    for (int i = 0; i < request_.token_ids_size(); ++i) {
      trace_.ids.push_back(CheckId(absl::StrCat("token_ids[", i, "]"), request_.token_ids(i)));
    }
    if (speaks && !request_.target().empty()) trace_.attribution.target = IdOf("target", request_.target(), words);
    if (request_.has_target_id()) trace_.attribution.target = CheckId("target_id", request_.target_id());
    CountText();
  }

  std::int64_t IdOf(std::string field, const std::string& word, const WordIds& words) {
    const std::int64_t id = words.at(word);
    if (id < 0) {
      violations_.Add(std::move(field), absl::StrCat("\"", word, "\""),
                      absl::StrCat("one of the stack's ", stack_->vocabulary.size(), " words; GetLayer lists them"));
    }
    return id;
  }

  std::int64_t CheckId(std::string field, std::int64_t id) {
    const std::int64_t words = stack_->vocabulary_size();
    if (id < 0 || id >= words) violations_.Add(std::move(field), absl::StrCat(id), absl::StrCat("0 to ", words - 1));
    return id;
  }

  void CountText() {
    std::size_t longest = 0;
    for (const std::string& word : stack_->vocabulary) longest = std::max(longest, word.size());
    trace_.wish.text_bytes = (trace_.wish.tokens + kMostBets + 1) * (static_cast<std::int64_t>(longest) + kBetBytes);
  }

  void DecodeOff() {
    if (request_.off().empty()) return;
    std::int64_t heads = 0;
    for (const auto& layer : stack_->layers) {
      trace_.wish.head_gains.emplace_back(static_cast<std::size_t>(layer->query_heads()), 1.0F);
      heads += layer->query_heads();
    }
    if (request_.off_size() > heads) {
      violations_.Add("off", absl::StrCat(request_.off_size(), " heads"), absl::StrCat("at most all ", heads));
      return;
    }
    for (int i = 0; i < request_.off_size(); ++i) SwitchOff(absl::StrCat("off[", i, "]"), request_.off(i));
  }

  void SwitchOff(const std::string& field, const v1::StackHead& off) {
    std::vector<std::vector<float>>& gains = trace_.wish.head_gains;
    if (off.layer() >= gains.size()) {
      violations_.Add(field + ".layer", absl::StrCat(off.layer()), absl::StrCat("0 to ", gains.size() - 1));
      return;
    }
    std::vector<float>& heads = gains[off.layer()];
    if (off.head() >= heads.size()) {
      violations_.Add(field + ".head", absl::StrCat(off.head()), absl::StrCat("0 to ", heads.size() - 1));
      return;
    }
    if (heads[off.head()] == 0) {
      violations_.Add(field, absl::StrCat("layer ", off.layer(), ", head ", off.head(), " again"), "each head once");
    }
    heads[off.head()] = 0;
  }

  const v1::TraceStackRequest& request_;
  const Stack* stack_;
  const Limits& limits_;
  Violations violations_;
  DecodedTrace trace_;
};

}  // namespace

StackViews ViewsOf(const Stack& stack) {
  StackViews views;
  views.width = stack.width();
  views.words = stack.vocabulary_size();
  views.token_embedding = FloatsOf(stack.token_embedding);
  views.position_embedding = FloatsOf(stack.position_embedding);
  for (const auto& layer : stack.layers) views.layers.push_back(layer->views());
  for (const NormWeights& norm : stack.norms) views.norms.push_back(ViewOf(norm));
  views.final_norm = ViewOf(stack.final_norm);
  views.norm_epsilon = stack.norm_epsilon;
  views.unembedding = FloatsOf(stack.unembedding);
  views.unembedding_bias = FloatsOf(stack.unembedding_bias);
  return views;
}

StackForm FormOf(const Stack& stack) {
  StackForm form{stack.width(), stack.vocabulary_size(), {}, stack.causal};
  for (const auto& layer : stack.layers) form.layers.push_back(layer->form());
  return form;
}

absl::StatusOr<DecodedTrace> DecodeTrace(const v1::TraceStackRequest& request, const Stack* stack,
                                         const Limits& limits) {
  absl::StatusOr<DecodedTrace> decoded = Decoder(request, stack, limits).Decode();
  if (!decoded.ok()) return decoded;
  decoded->wish.maps = request.maps();
  decoded->wish.logits = request.logits();
  return decoded;
}

}  // namespace headlight
