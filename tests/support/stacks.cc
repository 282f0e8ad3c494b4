#include "tests/support/stacks.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/support/oracle.h"

namespace headlight::oracle {
namespace {

class Maker {
 public:
  explicit Maker(std::uint64_t seed) : seed_(seed) {}

  OwnedTensor Random(Shape shape, double scale, double mean = 0) {
    std::vector<float> numbers = Numbers(++seed_, *ElementCount(shape));
    for (float& x : numbers) x = static_cast<float>(mean + scale * x);
    return TensorOf(TensorKind::kF32, std::move(shape), numbers);
  }

 private:
  std::uint64_t seed_;
};

std::shared_ptr<const Layer> RandomLayer(const StackSizes& s, Maker& maker) {
  // Scores of unit scale. With larger ones a stack without norms is ill-conditioned: with twice these matrices and five
  // layers one ulp of the embeddings moves exact logits by three times the bound of float32.
  const double scale = 1 / std::sqrt(static_cast<double>(s.width));
  LayerMatrices m;
  m.query = maker.Random({s.width, s.query_heads * s.head_size}, scale);
  m.key = maker.Random({s.width, s.key_value_heads * s.head_size}, scale);
  m.value = maker.Random({s.width, s.key_value_heads * s.value_head_size}, scale);
  if (s.output) m.output = maker.Random({s.query_heads * s.value_head_size, s.width}, scale);
  if (s.biases) {
    m.query_bias = maker.Random({s.query_heads * s.head_size}, 0.3);
    m.key_bias = maker.Random({s.key_value_heads * s.head_size}, 0.3);
    m.value_bias = maker.Random({s.key_value_heads * s.value_head_size}, 0.3);
    if (s.output) m.output_bias = maker.Random({s.width}, 0.3);
  }
  return std::make_shared<Layer>(LayerFacts{}, s.query_heads, s.key_value_heads, std::move(m));
}

NormWeights RandomNorm(const StackSizes& s, Maker& maker) {
  NormWeights norm;
  if (!s.norms) return norm;
  norm.weight = maker.Random({s.width}, 0.2, 1);
  if (s.biases) norm.bias = maker.Random({s.width}, 0.2);
  return norm;
}

// Rows of doubles.
struct Rows {
  Rows(std::int64_t rows, std::int64_t width) : columns(width), data(static_cast<std::size_t>(rows * width)) {}
  double& At(std::int64_t r, std::int64_t c) { return data[static_cast<std::size_t>(r * columns + c)]; }
  double At(std::int64_t r, std::int64_t c) const { return data[static_cast<std::size_t>(r * columns + c)]; }
  std::int64_t rows() const { return static_cast<std::int64_t>(data.size()) / columns; }
  std::int64_t columns;
  std::vector<double> data;
};

Rows Product(const Rows& x, const OwnedTensor& w, const OwnedTensor& bias) {
  const std::int64_t columns = w.shape[1];
  Rows y(x.rows(), columns);
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      double sum = bias.empty() ? 0 : bias.floats()[c];
      for (std::int64_t k = 0; k < x.columns; ++k) sum += x.At(r, k) * w.floats()[k * columns + c];
      y.At(r, c) = sum;
    }
  }
  return y;
}

double Mean(const Rows& x, std::int64_t r) {
  double sum = 0;
  for (std::int64_t c = 0; c < x.columns; ++c) sum += x.At(r, c);
  return sum / static_cast<double>(x.columns);
}

double Factor(const Rows& x, std::int64_t r, double epsilon) {
  const double mean = Mean(x, r);
  double sum = 0;
  for (std::int64_t c = 0; c < x.columns; ++c) sum += (x.At(r, c) - mean) * (x.At(r, c) - mean);
  return 1 / std::sqrt(sum / static_cast<double>(x.columns) + epsilon);
}

Rows Normalised(const Rows& x, const NormWeights& norm, double epsilon) {
  if (norm.weight.empty()) return x;
  Rows y = x;
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    const double mean = Mean(x, r);
    const double factor = Factor(x, r, epsilon);
    for (std::int64_t c = 0; c < x.columns; ++c) {
      y.At(r, c) = (x.At(r, c) - mean) * factor * norm.weight.floats()[c];
      if (!norm.bias.empty()) y.At(r, c) += norm.bias.floats()[c];
    }
  }
  return y;
}

// [Hq, T, T].
std::vector<double> Weights(const Layer& layer, const Rows& q, const Rows& k, bool causal) {
  const std::int64_t size = q.columns / layer.query_heads();
  const std::int64_t group = layer.query_heads() / layer.key_value_heads();
  std::vector<double> weights;
  for (std::int64_t h = 0; h < layer.query_heads(); ++h) {
    for (std::int64_t i = 0; i < q.rows(); ++i) {
      std::vector<double> row(static_cast<std::size_t>(q.rows()));
      double total = 0;
      for (std::int64_t j = 0; j < (causal ? i + 1 : q.rows()); ++j) {
        double score = 0;
        for (std::int64_t c = 0; c < size; ++c) score += q.At(i, h * size + c) * k.At(j, h / group * size + c);
        total += row[static_cast<std::size_t>(j)] = std::exp(score / std::sqrt(static_cast<double>(size)));
      }
      for (const double weight : row) weights.push_back(weight / total);
    }
  }
  return weights;
}

// What each head adds to each row: by head, [T, E].
std::vector<Rows> Contributions(const Layer& layer, const std::vector<double>& weights, const Rows& v) {
  const std::int64_t size = v.columns / layer.key_value_heads();
  const std::int64_t group = layer.query_heads() / layer.key_value_heads();
  const OwnedTensor& output = layer.matrices().output;
  const std::int64_t width = output.empty() ? layer.query_heads() * size : output.shape[1];
  std::vector<Rows> all;
  for (std::int64_t h = 0; h < layer.query_heads(); ++h) {
    Rows added(v.rows(), width);
    for (std::int64_t i = 0; i < v.rows(); ++i) {
      for (std::int64_t c = 0; c < size; ++c) {
        double z = 0;
        for (std::int64_t j = 0; j < v.rows(); ++j) {
          z += weights[static_cast<std::size_t>((h * v.rows() + i) * v.rows() + j)] * v.At(j, h / group * size + c);
        }
        if (output.empty()) added.At(i, h * size + c) = z;
        for (std::int64_t e = 0; !output.empty() && e < width; ++e) {
          added.At(i, e) += z * output.floats()[(h * size + c) * width + e];
        }
      }
    }
    all.push_back(std::move(added));
  }
  return all;
}

// A part of the last row, taken through the final norm of the whole, as logits of all words.
std::vector<double> LogitsOf(const Stack& stack, const Rows& stream, const Rows& part, std::int64_t row) {
  Rows own(1, stream.columns);
  const bool norm = !stack.final_norm.weight.empty();
  const double factor = norm ? Factor(stream, stream.rows() - 1, stack.norm_epsilon) : 1;
  for (std::int64_t e = 0; e < stream.columns; ++e) {
    own.At(0, e) =
        norm ? (part.At(row, e) - Mean(part, row)) * factor * stack.final_norm.weight.floats()[e] : part.At(row, e);
  }
  return Product(own, stack.unembedding, {}).data;
}

Rows RowOf(const OwnedTensor& tensor) {
  Rows row(1, *ElementCount(tensor.shape));
  std::copy_n(tensor.floats(), row.columns, row.data.begin());
  return row;
}

}  // namespace

std::shared_ptr<const Stack> RandomStack(const StackSizes& s, std::uint64_t seed) {
  Maker maker(seed * 1000);
  auto stack = std::make_shared<Stack>();
  stack->name = "random";
  stack->id = "sha256:random";
  stack->causal = s.causal;
  stack->token_embedding = maker.Random({s.words, s.width}, 1);
  if (s.positions > 0) stack->position_embedding = maker.Random({s.positions, s.width}, 0.5);
  for (std::int64_t l = 0; l < s.layers; ++l) {
    stack->layers.push_back(RandomLayer(s, maker));
    stack->norms.push_back(RandomNorm(s, maker));
  }
  stack->final_norm = RandomNorm(s, maker);
  stack->unembedding = maker.Random({s.width, s.words}, 1 / std::sqrt(static_cast<double>(s.width)));
  if (s.biases) stack->unembedding_bias = maker.Random({s.words}, 0.3);
  for (std::int64_t v = 0; s.vocabulary && v < s.words; ++v) stack->vocabulary.push_back(absl::StrCat("w", v));
  return stack;
}

std::vector<std::string> PotterWords() {
  return {"Mr", "and", "Mrs", "Potter", "thanked", "the", "driver", ";", "then", "Mrs"};
}

// Channels: word, the word before, the bet, position.
std::shared_ptr<const Stack> HandMadeInduction() {
  constexpr std::int64_t kPositions = 16;
  auto stack = std::make_shared<Stack>();
  stack->name = "potter";
  stack->id = "sha256:potter";
  for (const std::string& word : PotterWords()) {
    if (std::find(stack->vocabulary.begin(), stack->vocabulary.end(), word) == stack->vocabulary.end()) {
      stack->vocabulary.push_back(word);
    }
  }
  const auto words = static_cast<std::int64_t>(stack->vocabulary.size());
  const std::int64_t width = 3 * words + kPositions;
  const auto zeros = [](std::int64_t rows, std::int64_t columns) {
    return MakeTensor(TensorKind::kF32, {rows, columns});
  };
  // numbers[row + i][column + i] = value for i below count.
  const auto diagonal = [](OwnedTensor& m, std::int64_t row, std::int64_t column, std::int64_t count, double value) {
    for (std::int64_t i = 0; i < count; ++i) {
      m.floats()[(row + i) * m.shape[1] + column + i] = static_cast<float>(value);
    }
  };
  stack->token_embedding = zeros(words, width);
  diagonal(stack->token_embedding, 0, 0, words, 1);
  stack->position_embedding = zeros(kPositions, width);
  diagonal(stack->position_embedding, 0, 3 * words, kPositions, 1);
  stack->unembedding = zeros(width, words);
  diagonal(stack->unembedding, 2 * words, 0, words, 10);
  for (const bool first : {true, false}) {
    const std::int64_t size = first ? kPositions : words;
    const double strength = 40 * std::sqrt(static_cast<double>(size));
    LayerMatrices m;
    m.query = zeros(width, 2 * size);
    m.key = zeros(width, 2 * size);
    m.value = zeros(width, 2 * words);
    m.output = zeros(2 * words, width);
    if (first) {
      diagonal(m.query, 3 * words + 1, 0, kPositions - 1, strength);
      diagonal(m.key, 3 * words, 0, kPositions, 1);
    } else {
      diagonal(m.query, 0, 0, words, strength);
      diagonal(m.key, words, 0, words, 1);
    }
    diagonal(m.value, 0, 0, words, 1);
    diagonal(m.output, 0, first ? words : 2 * words, words, 1);
    stack->layers.push_back(std::make_shared<Layer>(LayerFacts{}, 2, 2, std::move(m)));
    stack->norms.emplace_back();
  }
  return stack;
}

ExactTrace Solve(const Stack& stack, const std::vector<std::int64_t>& ids, const OffHeads& off, std::int64_t target) {
  const auto tokens = static_cast<std::int64_t>(ids.size());
  ExactTrace exact;
  Rows stream(tokens, stack.width());
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t e = 0; e < stack.width(); ++e) {
      stream.At(t, e) = stack.token_embedding.floats()[ids[static_cast<std::size_t>(t)] * stack.width() + e];
      if (stack.positions() > 0) stream.At(t, e) += stack.position_embedding.floats()[t * stack.width() + e];
    }
  }
  const Rows embedded = stream;
  std::vector<Rows> parts, biases;
  for (std::size_t l = 0; l < stack.layers.size(); ++l) {
    const Layer& layer = *stack.layers[l];
    const LayerMatrices& m = layer.matrices();
    const Rows x = Normalised(stream, stack.norms[l], stack.norm_epsilon);
    exact.maps.push_back(
        Weights(layer, Product(x, m.query, m.query_bias), Product(x, m.key, m.key_bias), stack.causal));
    std::vector<Rows> added = Contributions(layer, exact.maps.back(), Product(x, m.value, m.value_bias));
    for (std::size_t h = 0; h < added.size(); ++h) {
      if (std::find(off.begin(), off.end(), std::pair{std::int64_t(l), std::int64_t(h)}) != off.end()) {
        std::fill(added[h].data.begin(), added[h].data.end(), 0.0);
      }
      for (std::size_t i = 0; i < stream.data.size(); ++i) stream.data[i] += added[h].data[i];
      parts.push_back(std::move(added[h]));
    }
    if (m.output_bias.empty()) continue;
    biases.push_back(RowOf(m.output_bias));
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t e = 0; e < stack.width(); ++e) stream.At(t, e) += biases.back().At(0, e);
    }
  }
  exact.logits =
      Product(Normalised(stream, stack.final_norm, stack.norm_epsilon), stack.unembedding, stack.unembedding_bias).data;
  const auto word = static_cast<std::size_t>(target);
  for (const Rows& part : parts) {
    const std::vector<double> logits = LogitsOf(stack, stream, part, tokens - 1);
    double mean = 0;
    for (const double logit : logits) mean += logit / static_cast<double>(logits.size());
    exact.head_logits.push_back(logits[word]);
    exact.centered_logits.push_back(logits[word] - mean);
  }
  exact.embedding_logit = LogitsOf(stack, stream, embedded, tokens - 1)[word];
  for (const Rows& bias : biases) exact.bias_logit += LogitsOf(stack, stream, bias, 0)[word];
  if (!stack.final_norm.bias.empty()) {
    exact.bias_logit += Product(RowOf(stack.final_norm.bias), stack.unembedding, {}).data[word];
  }
  if (!stack.unembedding_bias.empty()) exact.bias_logit += stack.unembedding_bias.floats()[target];
  return exact;
}

}  // namespace headlight::oracle
