// What is claimed of the demo's heads, computed by the double reference from the weights and embeddings themselves.
#include "server/layers/demo.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "server/kernels/reference/attention.h"

namespace headlight {
namespace {

constexpr std::int64_t kHeads = 3;
constexpr std::int64_t kTokens = 10;
constexpr std::int64_t kWidth = 16;
constexpr std::int64_t kHeadSize = 12;
constexpr std::int64_t kValueSize = 8;
// Weights and embeddings are floats; scores reach 10.
constexpr double kClose = 1e-5;

enum Word { kThe, kCat, kSat, kOn, kTheAgain, kMat, kBecause, kIt, kWas, kTired };

// Scores and weights [tokens, tokens] and what was carried [tokens, 8] of one head.
struct Head {
  std::vector<std::vector<double>> scores, weights, outputs;

  std::int64_t Strongest(std::int64_t row) const {
    const std::vector<double>& of_row = weights[static_cast<std::size_t>(row)];
    return std::max_element(of_row.begin(), of_row.end()) - of_row.begin();
  }
  double Weight(std::int64_t row, std::int64_t key) const {
    return weights[static_cast<std::size_t>(row)][static_cast<std::size_t>(key)];
  }
  double Score(std::int64_t row, std::int64_t key) const {
    return scores[static_cast<std::size_t>(row)][static_cast<std::size_t>(key)];
  }
};

// [tokens, columns] of one head: embeddings times the head's columns of a matrix.
std::vector<double> Projected(const TensorView& weights, std::int64_t head, std::int64_t size) {
  const float* embeddings = GetDemo().embeddings.floats();
  std::vector<double> rows(static_cast<std::size_t>(kTokens * size));
  for (std::int64_t t = 0; t < kTokens; ++t) {
    const std::vector<double> x(embeddings + t * kWidth, embeddings + (t + 1) * kWidth);
    reference::Project(x.data(), weights, {}, head * size, (head + 1) * size, rows.data() + t * size);
  }
  return rows;
}

Head Attended(std::int64_t head) {
  const LayerViews views = GetDemo().layer.views();
  const std::vector<double> q = Projected(views.query, head, kHeadSize);
  const std::vector<double> k = Projected(views.key, head, kHeadSize);
  const std::vector<double> v = Projected(views.value, head, kValueSize);
  const std::vector<double> bias(kTokens, 0);
  Head result;
  for (std::int64_t i = 0; i < kTokens; ++i) {
    std::vector<double> weights(kTokens);
    std::vector<double> output(kValueSize);
    const reference::Row row{q.data() + i * kHeadSize,
                             {k.data(), kTokens, kHeadSize, kHeadSize},
                             {v.data(), kTokens, kValueSize, kValueSize},
                             bias.data(),
                             1 / std::sqrt(static_cast<double>(kHeadSize)),
                             weights.data(),
                             output.data()};
    reference::Score(row, 0, kTokens);
    result.scores.push_back(weights);
    reference::Softmax(row);
    reference::Blend(row, 0, kTokens);
    result.weights.push_back(weights);
    result.outputs.push_back(output);
  }
  return result;
}

// Sum over k = 1..4 of cos(2 pi k distance / 24).
double Closeness(std::int64_t distance) {
  double sum = 0;
  for (int k = 1; k <= 4; ++k) sum += std::cos(2 * 3.14159265358979323846 * k * static_cast<double>(distance) / 24);
  return sum;
}

bool IsOneOf(std::int64_t word, const std::set<std::int64_t>& words) { return words.count(word) != 0; }

TEST(Demo, ReadsTheSentence) {
  const Demo& demo = GetDemo();
  EXPECT_EQ(demo.tokens,
            (std::vector<std::string>{"The", "cat", "sat", "on", "the", "mat", "because", "it", "was", "tired"}));
  EXPECT_EQ(demo.embeddings.shape, (Shape{kTokens, kWidth}));
  EXPECT_EQ(demo.embeddings.kind, TensorKind::kF32);
  EXPECT_EQ(demo.head_descriptions.size(), static_cast<std::size_t>(kHeads));
  EXPECT_EQ(demo.layer.form().query_heads, kHeads);
  EXPECT_EQ(demo.layer.form().query->shape, (Shape{kWidth, kHeads * kHeadSize}));
  EXPECT_EQ(demo.layer.form().value->shape, (Shape{kWidth, kHeads * kValueSize}));
  EXPECT_EQ(demo.layer.form().output->shape, (Shape{kHeads * kValueSize, kWidth}));
  EXPECT_EQ(&GetDemo(), &demo);
}

TEST(Demo, ClosenessFallsWithTheDistance) {
  EXPECT_NEAR(Closeness(0), 4, 0.005);
  EXPECT_NEAR(Closeness(1), 3.04, 0.005);
  EXPECT_NEAR(Closeness(2), 0.87, 0.005);
  // And the embeddings hold it: the product of two words' last eight channels.
  const float* x = GetDemo().embeddings.floats();
  for (std::int64_t i = 0; i < kTokens; ++i) {
    for (std::int64_t j = 0; j < kTokens; ++j) {
      double product = 0;
      for (std::int64_t c = 8; c < kWidth; ++c) product += static_cast<double>(x[i * kWidth + c]) * x[j * kWidth + c];
      EXPECT_NEAR(product, Closeness(i - j), kClose) << i << " " << j;
    }
  }
}

TEST(Demo, ScoresEqualTheClosedFormulaOfEveryHead) {
  const std::set<std::int64_t> verbs = {kSat, kWas};
  const std::set<std::int64_t> subjects = {kCat, kIt};
  const std::set<std::int64_t> articles = {kThe, kTheAgain};
  const std::set<std::int64_t> nouns = {kCat, kMat};
  const Head back = Attended(0);
  const Head grammar = Attended(1);
  const Head reference = Attended(2);
  for (std::int64_t i = 0; i < kTokens; ++i) {
    for (std::int64_t j = 0; j < kTokens; ++j) {
      EXPECT_NEAR(back.Score(i, j), 2.2 * Closeness(i - 1 - j), kClose) << i << " " << j;
      const double links =
          (IsOneOf(i, verbs) && IsOneOf(j, subjects) ? 6 : 0) + (IsOneOf(i, articles) && IsOneOf(j, nouns) ? 5 : 0);
      EXPECT_NEAR(grammar.Score(i, j), links + Closeness(i - j), kClose) << i << " " << j;
      EXPECT_NEAR(reference.Score(i, j), (i == kIt && j == kCat ? 6 : 0) + 0.8 * Closeness(i - j), kClose)
          << i << " " << j;
    }
  }
}

TEST(Demo, FirstHeadLooksOneWordBack) {
  const Head head = Attended(0);
  EXPECT_EQ(head.Strongest(kIt), kBecause);
  EXPECT_EQ(std::round(head.Weight(kIt, kBecause) * 100), 80);
  for (std::int64_t i = 1; i < kTokens; ++i) EXPECT_EQ(head.Strongest(i), i - 1) << i;
}

TEST(Demo, SecondHeadLinksVerbsToSubjectsAndArticlesToNouns) {
  const Head head = Attended(1);
  EXPECT_EQ(head.Strongest(kSat), kCat);
  EXPECT_EQ(head.Strongest(kWas), kIt);
  EXPECT_EQ(head.Strongest(kThe), kCat);
  EXPECT_EQ(head.Strongest(kTheAgain), kMat);
}

TEST(Demo, ThirdHeadResolvesThePronoun) {
  const Head head = Attended(2);
  for (std::int64_t i = 0; i < kTokens; ++i) {
    EXPECT_EQ(head.Strongest(i), i == kIt ? std::int64_t{kCat} : i) << i;  // the others look at themselves
  }
}

// Values are the property channels, and the output adds up what the heads carried.
TEST(Demo, OutputAddsUpTheProperties) {
  const float* x = GetDemo().embeddings.floats();
  const TensorView output = GetDemo().layer.views().output;
  std::vector<Head> heads;
  for (std::int64_t h = 0; h < kHeads; ++h) heads.push_back(Attended(h));
  for (std::int64_t i = 0; i < kTokens; ++i) {
    std::vector<double> concatenated;
    std::vector<double> expected(kWidth, 0);
    for (const Head& head : heads) {
      const std::vector<double>& carried = head.outputs[static_cast<std::size_t>(i)];
      concatenated.insert(concatenated.end(), carried.begin(), carried.end());
      for (std::int64_t j = 0; j < kTokens; ++j) {
        for (std::int64_t c = 0; c < kValueSize; ++c) {
          expected[static_cast<std::size_t>(c)] += head.Weight(i, j) * x[j * kWidth + c];
        }
      }
    }
    std::vector<double> projected(kWidth);
    reference::Project(concatenated.data(), output, {}, 0, kWidth, projected.data());
    for (std::size_t c = 0; c < kWidth; ++c) EXPECT_NEAR(projected[c], expected[c], kClose) << i << " " << c;
  }
}

}  // namespace
}  // namespace headlight
