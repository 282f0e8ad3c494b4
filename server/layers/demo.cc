#include "server/layers/demo.h"

#include <cmath>
#include <cstdint>
#include <utility>

namespace headlight {
namespace {

enum Feature : std::uint8_t { kArticle, kNoun, kVerb, kPronoun, kSubject, kLiving, kLink, kProperty, kFeatures };

struct Word {
  const char* text;
  std::vector<Feature> features;
};

// The properties that earlier layers of a trained model would have put there.
const std::vector<Word>& Sentence() {
  static const auto& sentence = *new std::vector<Word>{
      {"The", {kArticle}},  {"cat", {kNoun, kSubject, kLiving}},
      {"sat", {kVerb}},     {"on", {kLink}},
      {"the", {kArticle}},  {"mat", {kNoun}},
      {"because", {kLink}}, {"it", {kPronoun, kSubject}},
      {"was", {kVerb}},     {"tired", {kProperty}},
  };
  return sentence;
}

constexpr std::int64_t kHeads = 3;
constexpr std::int64_t kFrequencies = 4;
constexpr std::int64_t kPositionChannels = 2 * kFrequencies;
constexpr std::int64_t kWidth = kFeatures + kPositionChannels;
// A query or key head holds the position channels, then one channel per kind of pair that it looks for.
constexpr std::int64_t kHeadSize = 12;
constexpr std::int64_t kValueSize = kFeatures;

double Frequency(std::int64_t k) { return 2 * 3.14159265358979323846 * static_cast<double>(k + 1) / 24; }

// One pair of properties that a head links: score `strength` where the row has `from` and the key has `to`.
struct Link {
  Feature from;
  Feature to;
  double strength;
};

// Fills the columns of one head in W_q and W_k.
class HeadWriter {
 public:
  HeadWriter(std::int64_t head, OwnedTensor& query, OwnedTensor& key) : head_(head), query_(query), key_(key) {}

  // Scores `strength` x closeness to the position `back` words before. The angle-addition theorem makes turning a
  // position a product with a matrix: sin(a - b) = sin a cos b - cos a sin b, cos(a - b) = cos a cos b + sin a sin b.
  void LookBack(double back, double strength) {
    for (std::int64_t k = 0; k < kFrequencies; ++k) {
      const double turn = Frequency(k) * back;
      const std::int64_t sine = 2 * k;
      const std::int64_t cosine = 2 * k + 1;
      SetQuery(kFeatures + sine, sine, strength * std::cos(turn));
      SetQuery(kFeatures + cosine, sine, -strength * std::sin(turn));
      SetQuery(kFeatures + cosine, cosine, strength * std::cos(turn));
      SetQuery(kFeatures + sine, cosine, strength * std::sin(turn));
      SetKey(kFeatures + sine, sine);
      SetKey(kFeatures + cosine, cosine);
    }
  }

  void Connect(const Link& link) {
    const std::int64_t channel = kPositionChannels + links_++;
    SetQuery(link.from, channel, link.strength);
    SetKey(link.to, channel);
  }

 private:
  // Strengths are of scores; scores are divided by sqrt(head size), so W_q makes up for it.
  void SetQuery(std::int64_t row, std::int64_t channel, double value) {
    query_.floats()[row * kHeads * kHeadSize + head_ * kHeadSize + channel] =
        static_cast<float>(value * std::sqrt(static_cast<double>(kHeadSize)));
  }
  void SetKey(std::int64_t row, std::int64_t channel) {
    key_.floats()[row * kHeads * kHeadSize + head_ * kHeadSize + channel] = 1;
  }

  std::int64_t head_;
  OwnedTensor& query_;
  OwnedTensor& key_;
  std::int64_t links_ = 0;
};

OwnedTensor MakeEmbeddings() {
  const auto tokens = static_cast<std::int64_t>(Sentence().size());
  OwnedTensor embeddings = MakeTensor(TensorKind::kF32, {tokens, kWidth});
  for (std::int64_t t = 0; t < tokens; ++t) {
    float* row = embeddings.floats() + t * kWidth;
    for (const Feature feature : Sentence()[static_cast<std::size_t>(t)].features) row[feature] = 1;
    for (std::int64_t k = 0; k < kFrequencies; ++k) {
      row[kFeatures + 2 * k] = static_cast<float>(std::sin(Frequency(k) * static_cast<double>(t)));
      row[kFeatures + 2 * k + 1] = static_cast<float>(std::cos(Frequency(k) * static_cast<double>(t)));
    }
  }
  return embeddings;
}

Layer MakeLayer() {
  OwnedTensor query = MakeTensor(TensorKind::kF32, {kWidth, kHeads * kHeadSize});
  OwnedTensor key = MakeTensor(TensorKind::kF32, {kWidth, kHeads * kHeadSize});
  OwnedTensor value = MakeTensor(TensorKind::kF32, {kWidth, kHeads * kValueSize});
  OwnedTensor output = MakeTensor(TensorKind::kF32, {kHeads * kValueSize, kWidth});
  HeadWriter(0, query, key).LookBack(1, 2.2);
  HeadWriter grammar(1, query, key);
  grammar.LookBack(0, 1.0);
  grammar.Connect({kVerb, kSubject, 6});
  grammar.Connect({kArticle, kNoun, 5});
  HeadWriter reference(2, query, key);
  reference.LookBack(0, 0.8);
  reference.Connect({kPronoun, kLiving, 6});
  for (std::int64_t h = 0; h < kHeads; ++h) {
    for (std::int64_t c = 0; c < kValueSize; ++c) {
      value.floats()[c * kHeads * kValueSize + h * kValueSize + c] = 1;
      output.floats()[(h * kValueSize + c) * kWidth + c] = 1;
    }
  }
  LayerFacts facts;
  facts.name = facts.id = "demo";
  facts.scheme = "built-in";
  LayerMatrices matrices;
  matrices.query = std::move(query);
  matrices.key = std::move(key);
  matrices.value = std::move(value);
  matrices.output = std::move(output);
  return {std::move(facts), kHeads, kHeads, std::move(matrices)};
}

Demo MakeDemo() {
  std::vector<std::string> tokens;
  for (const Word& word : Sentence()) tokens.emplace_back(word.text);
  return {MakeLayer(),
          std::move(tokens),
          MakeEmbeddings(),
          {"looks one step back", "links a verb to its subject and an article to its noun",
           "resolves the pronoun to the living noun it stands for"}};
}

}  // namespace

const Demo& GetDemo() {
  static const Demo& demo = *new Demo(MakeDemo());
  return demo;
}

}  // namespace headlight
