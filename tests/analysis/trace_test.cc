// Stacks through the engine against what they are in double, whatever they have and whichever heads are off.
#include "server/analysis/trace.h"

#include <gtest/gtest.h>

#include <numeric>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "server/engine/sequence.h"
#include "server/service/costs.h"
#include "server/service/decode_trace.h"
#include "tests/support/oracle.h"
#include "tests/support/stacks.h"

namespace headlight {
namespace {

using oracle::Compare;
using oracle::ExactTrace;
using oracle::Floats;
using oracle::OffHeads;
using oracle::RandomStack;
using oracle::StackSizes;

struct Text {
  std::vector<std::int64_t> ids;
  OffHeads off;
  bool maps = true, logits = true;
  std::optional<std::int64_t> target;
};

std::vector<std::int64_t> Ids(const Stack& stack, std::int64_t tokens) {
  std::vector<std::int64_t> ids;
  for (std::int64_t t = 0; t < tokens; ++t) ids.push_back((t * t + 3 * t + 1) % stack.vocabulary_size());
  return ids;
}

StackWish WishOf(const Stack& stack, const Text& text) {
  StackWish wish;
  wish.tokens = static_cast<std::int64_t>(text.ids.size());
  wish.maps = text.maps;
  wish.logits = text.logits;
  for (const auto& layer : stack.layers) {
    wish.head_gains.emplace_back(static_cast<std::size_t>(layer->query_heads()), 1.0F);
  }
  for (const auto& [layer, head] : text.off) {
    wish.head_gains[static_cast<std::size_t>(layer)][static_cast<std::size_t>(head)] = 0;
  }
  return wish;
}

// A trace from its plan to its end.
class Traced {
 public:
  Traced(const Stack& stack, Text text, int threads = 2)
      : text_(std::move(text)),
        views_(ViewsOf(stack)),
        plan_(*PlanStack(FormOf(stack), WishOf(stack, text_), {}, ThisProcessor())) {
    trace_ = std::make_unique<Trace>(plan_, views_, text_.ids, AttributionRequest{0, 5, text_.target},
                                     Trace::Resources{account_, matmuls_}, absl::InfinitePast());
    Sequence work(trace_->order());
    ComputePool pool(threads);
    absl::Notification ended;
    pool.Run(std::make_shared<CallControl>(absl::InfiniteFuture()), &work, [&](const absl::Status& computed) {
      status_ = computed;
      ended.Notify();
    });
    ended.WaitForNotification();
  }

  const absl::Status& status() const { return status_; }
  const StackPlan& plan() const { return plan_; }
  Trace& trace() { return *trace_; }
  const MemoryAccount& account() const { return account_; }

 private:
  const Text text_;
  const StackViews views_;
  const StackPlan plan_;
  MemoryAccount account_{nullptr};
  MatmulCache matmuls_;
  std::unique_ptr<Trace> trace_;
  absl::Status status_;
};

void ExpectAttribution(const Attribution& got, const ExactTrace& exact) {
  std::vector<float> heads, centered;
  double sum = got.embedding_logit + got.bias_logit;
  for (const HeadAttribution& head : got.heads) {
    heads.push_back(static_cast<float>(head.logit));
    centered.push_back(static_cast<float>(head.centered_logit));
    sum += head.logit;
  }
  EXPECT_EQ(Compare(heads, exact.head_logits), "");
  EXPECT_EQ(Compare(centered, exact.centered_logits), "");
  EXPECT_NEAR(got.embedding_logit, exact.embedding_logit, 1e-5);
  EXPECT_NEAR(got.bias_logit, exact.bias_logit, 1e-5);
  EXPECT_EQ(Compare({static_cast<float>(sum)}, {got.target.logit}), "");
}

void ExpectBets(const std::vector<WordBet>& bets, const std::vector<double>& logits) {
  double total = 0;
  for (const double logit : logits) total += std::exp(logit);
  std::vector<std::int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  ASSERT_EQ(bets.size(), std::min<std::size_t>(5, logits.size()));
  for (std::size_t i = 0; i < bets.size(); ++i) {
    EXPECT_EQ(bets[i].id, order[i]);
    EXPECT_NEAR(bets[i].logit, logits[static_cast<std::size_t>(bets[i].id)], 2e-5);
    EXPECT_NEAR(bets[i].probability, std::exp(logits[static_cast<std::size_t>(bets[i].id)]) / total, 1e-5);
  }
}

void ExpectExact(const StackSizes& sizes, std::int64_t tokens, const OffHeads& off = {},
                 std::optional<std::int64_t> target = std::nullopt) {
  const std::shared_ptr<const Stack> stack = RandomStack(sizes);
  const std::vector<std::int64_t> ids = Ids(*stack, tokens);
  Traced traced(*stack, {ids, off, true, true, target});
  ASSERT_TRUE(traced.status().ok()) << traced.status();
  const Attribution& got = traced.trace().attribution();
  EXPECT_EQ(got.target.id, target.value_or(got.bets.front().id));
  const ExactTrace exact = oracle::Solve(*stack, ids, off, got.target.id);
  EXPECT_EQ(Compare(Floats(traced.trace().TakeLogits()), exact.logits), "");
  for (std::size_t l = 0; l < stack->layers.size(); ++l) {
    std::vector<float> weights;
    for (const MapResult& map : traced.trace().TakeMaps(static_cast<std::int64_t>(l))) {
      const std::vector<float> one = Floats(map.weights);
      weights.insert(weights.end(), one.begin(), one.end());
    }
    EXPECT_EQ(Compare(weights, exact.maps[l]), "") << "layer " << l;
    EXPECT_EQ(traced.trace().statistics(static_cast<std::int64_t>(l)).size(),
              static_cast<std::size_t>(sizes.query_heads));
  }
  const std::vector<double> last(exact.logits.end() - sizes.words, exact.logits.end());
  ExpectBets(got.bets, last);
  ExpectAttribution(got, exact);
}

TEST(Trace, IsTheDefinitionWhateverTheStackHas) {
  for (const bool norms : {false, true}) {
    for (const bool biases : {false, true}) {
      for (const std::int64_t positions : {0, 40}) {
        for (const std::int64_t layers : {1, 2, 5}) {
          StackSizes sizes;
          sizes.norms = norms;
          sizes.biases = biases;
          sizes.positions = positions;
          sizes.layers = layers;
          SCOPED_TRACE(absl::StrCat(norms, biases, " ", positions, " positions, ", layers, " layers"));
          ExpectExact(sizes, 19);
        }
      }
    }
  }
}

TEST(Trace, GroupedHeadsAndHeadsWithoutAnOutputMatrix) {
  StackSizes sizes;
  sizes.query_heads = 4;
  sizes.key_value_heads = 2;
  sizes.norms = sizes.biases = true;
  ExpectExact(sizes, 33);
  sizes.output = false;
  ExpectExact(sizes, 33);
  sizes.causal = false;
  ExpectExact(sizes, 33);
}

TEST(Trace, OneTokenOneHeadAndFewWords) {
  StackSizes sizes;
  sizes.query_heads = sizes.key_value_heads = sizes.layers = 1;
  sizes.words = 3;
  ExpectExact(sizes, 1);
}

TEST(Trace, HeadsThatAreOffAddNothing) {
  StackSizes sizes;
  sizes.norms = sizes.biases = true;
  sizes.layers = 3;
  ExpectExact(sizes, 21, {{0, 1}, {2, 0}, {2, 1}});
  const auto stack = RandomStack(sizes);
  Traced traced(*stack, {Ids(*stack, 21), {{0, 1}, {2, 0}}, false, false, std::nullopt});
  ASSERT_TRUE(traced.status().ok());
  for (const HeadAttribution& head : traced.trace().attribution().heads) {
    const bool off = (head.layer == 0 && head.head == 1) || (head.layer == 2 && head.head == 0);
    EXPECT_EQ(head.logit == 0, off) << head.layer << ", " << head.head;
    EXPECT_EQ(head.centered_logit == 0, off);
  }
}

TEST(Trace, ATargetThatIsNotTheBestBet) {
  StackSizes sizes;
  sizes.norms = true;
  for (const std::int64_t target : {0, 11, 36}) ExpectExact(sizes, 12, {}, target);
}

// More than one unit of everything: rows, words, columns of the unembedding.
TEST(Trace, ManyUnits) {
  StackSizes sizes;
  sizes.words = 40'000;
  sizes.width = 160;
  sizes.query_heads = sizes.key_value_heads = 3;
  sizes.norms = sizes.biases = true;
  const auto stack = RandomStack(sizes);
  const std::vector<std::int64_t> ids = Ids(*stack, 500);
  Traced traced(*stack, {ids, {}, false, false, std::nullopt});
  ASSERT_TRUE(traced.status().ok()) << traced.status();
  const Attribution& got = traced.trace().attribution();
  // The last token alone is enough to check; the oracle would take its time for all words of all tokens.
  Stack small = *stack;
  small.unembedding = MakeTensor(TensorKind::kF32, {sizes.width, 5});
  small.unembedding_bias = MakeTensor(TensorKind::kF32, {5});
  for (std::int64_t w = 0; w < 5; ++w) {
    const std::int64_t id = got.bets[static_cast<std::size_t>(w)].id;
    for (std::int64_t e = 0; e < sizes.width; ++e) {
      small.unembedding.floats()[e * 5 + w] = stack->unembedding.floats()[e * sizes.words + id];
    }
    small.unembedding_bias.floats()[w] = stack->unembedding_bias.floats()[id];
  }
  const ExactTrace exact = oracle::Solve(small, ids, {}, 0);
  for (std::size_t w = 0; w < 5; ++w) {
    EXPECT_NEAR(got.bets[w].logit, exact.logits[exact.logits.size() - 5 + w], 1e-4);
    EXPECT_LE(got.bets[w].logit, got.bets[w == 0 ? 0 : w - 1].logit);
  }
  double sum = got.embedding_logit + got.bias_logit;
  for (std::size_t h = 0; h < got.heads.size(); ++h) {
    EXPECT_NEAR(got.heads[h].logit, exact.head_logits[h], 1e-4);
    sum += got.heads[h].logit;
  }
  EXPECT_NEAR(sum, got.target.logit, 1e-4);
}

TEST(Trace, TheSameBitsWithAnyNumberOfThreads) {
  StackSizes sizes;
  sizes.words = 40'000;
  sizes.norms = true;
  const auto stack = RandomStack(sizes);
  const Text text{Ids(*stack, 300), {}, false, false, std::nullopt};
  Traced one(*stack, text, 1), three(*stack, text, 3);
  const Attribution& a = one.trace().attribution();
  const Attribution& b = three.trace().attribution();
  for (std::size_t i = 0; i < a.bets.size(); ++i) {
    EXPECT_EQ(a.bets[i].logit, b.bets[i].logit);
    EXPECT_EQ(a.bets[i].probability, b.bets[i].probability);
  }
  for (std::size_t i = 0; i < a.heads.size(); ++i) {
    EXPECT_EQ(a.heads[i].logit, b.heads[i].logit);
    EXPECT_EQ(a.heads[i].centered_logit, b.heads[i].centered_logit);
  }
}

// However many layers there are, one at a time holds its workspace.
TEST(Trace, StaysWithinThePlannedWorkspace) {
  std::int64_t peak[2] = {};
  for (const int i : {0, 1}) {
    StackSizes sizes;
    sizes.layers = i == 0 ? 1 : 6;
    sizes.norms = true;
    const auto stack = RandomStack(sizes);
    Traced traced(*stack, {Ids(*stack, 700), {}, false, false, std::nullopt}, 1);
    ASSERT_TRUE(traced.status().ok());
    peak[i] = traced.account().peak();
    EXPECT_LE(peak[i], traced.plan().WorkspaceTotal(1));
  }
  EXPECT_EQ(peak[0], peak[1]);
}

TEST(Trace, NumbersBeyondFloat32AreRefused) {
  StackSizes sizes;
  Stack stack = *RandomStack(sizes);
  for (std::int64_t i = 0; i < sizes.words * sizes.width; ++i) stack.token_embedding.floats()[i] = 3e38F;
  Traced traced(stack, {Ids(stack, 4), {}, false, false, std::nullopt});
  EXPECT_EQ(traced.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace headlight
