#include "server/analysis/attribution.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

namespace headlight {
namespace {

// Logits, whose exponentials are dear, and other numbers that one unit looks at.
constexpr std::int64_t kLogits = std::int64_t{1} << 14;
constexpr std::int64_t kPiece = std::int64_t{1} << 17;

const float* FloatsOf(const TensorView& tensor) { return reinterpret_cast<const float*>(tensor.data); }

}  // namespace

// The softmax over all words, and its largest.
class AttributionWork::Bets final : public Phase {
 public:
  explicit Bets(AttributionWork& work) : Phase(Stage::kMaps), work_(work), logits_(work.run_.last_logits()) {}

  std::int64_t Begin() override {
    parts_.resize(static_cast<std::size_t>(CeilDiv(work_.plan_.words, kLogits)));
    return static_cast<std::int64_t>(parts_.size());
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t /*step*/, Lane& /*lane*/) override {
    const std::int64_t first = task * kLogits;
    const std::int64_t end = std::min(first + kLogits, work_.plan_.words);
    Part& part = parts_[static_cast<std::size_t>(task)];
    const double largest = *std::max_element(logits_ + first, logits_ + end);
    part.largest = largest;
    for (std::int64_t id = first; id < end; ++id) part.sum += std::exp(logits_[id] - largest);
    part.best.resize(static_cast<std::size_t>(end - first));
    std::iota(part.best.begin(), part.best.end(), first);
    KeepBest(part.best);
    return false;
  }

  absl::Status End() override {
    double largest = parts_.front().largest;
    for (const Part& part : parts_) largest = std::max(largest, part.largest);
    double sum = 0;
    std::vector<std::int64_t> best;
    for (const Part& part : parts_) {
      sum += part.sum * std::exp(part.largest - largest);
      best.insert(best.end(), part.best.begin(), part.best.end());
    }
    KeepBest(best);
    const auto bet = [&](std::int64_t id) { return WordBet{id, logits_[id], std::exp(logits_[id] - largest) / sum}; };
    for (const std::int64_t id : best) work_.result_.bets.push_back(bet(id));
    work_.result_.target = bet(work_.request_.target.value_or(best.front()));
    return absl::OkStatus();
  }

 private:
  struct Part {
    double largest = 0;
    double sum = 0;  // of exp(logit - largest)
    std::vector<std::int64_t> best;
  };

  void KeepBest(std::vector<std::int64_t>& ids) const {
    const auto keep =
        std::min(static_cast<std::ptrdiff_t>(work_.request_.bets), static_cast<std::ptrdiff_t>(ids.size()));
    std::partial_sort(ids.begin(), ids.begin() + keep, ids.end(), [this](std::int64_t a, std::int64_t b) {
      return logits_[a] > logits_[b] || (logits_[a] == logits_[b] && a < b);
    });
    ids.resize(static_cast<std::size_t>(keep));
    ids.shrink_to_fit();
  }

  AttributionWork& work_;
  const float* logits_;
  std::vector<Part> parts_;
};

// The mean of the unembedding's columns, by its rows.
class AttributionWork::MeanWord final : public Phase {
 public:
  explicit MeanWord(AttributionWork& work) : Phase(Stage::kMaps), work_(work) {}

  std::int64_t Begin() override {
    rows_ = std::max<std::int64_t>(1, kPiece / work_.plan_.words);
    work_.mean_word_.assign(static_cast<std::size_t>(work_.plan_.width), 0);
    return CeilDiv(work_.plan_.width, rows_);
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& /*lane*/) override {
    const std::int64_t words = work_.plan_.words;
    const std::int64_t end = std::min((step + 1) * kPiece, words);
    for (std::int64_t e = task * rows_; e < std::min((task + 1) * rows_, work_.plan_.width); ++e) {
      const float* row = work_.stack_.unembedding + e * words;
      double sum = 0;
      for (std::int64_t v = step * kPiece; v < end; ++v) sum += row[v];
      work_.mean_word_[static_cast<std::size_t>(e)] += sum / static_cast<double>(words);
    }
    return end < words;
  }

 private:
  AttributionWork& work_;
  std::int64_t rows_ = 1;
};

// A task for each head, a step for some rows of its part of the output matrix.
class AttributionWork::Heads final : public Phase {
 public:
  explicit Heads(AttributionWork& work) : Phase(Stage::kMaps), work_(work) {}

  std::int64_t Begin() override {
    work_.MakeDirections();
    rows_ = std::max<std::int64_t>(1, kPiece / work_.plan_.width);
    std::int64_t layer = 0;
    for (const ExecutionPlan& plan : work_.plan_.layers) {
      for (std::int64_t h = 0; h < plan.spec.dims.query_heads; ++h) work_.result_.heads.push_back({layer, h, 0, 0});
      ++layer;
    }
    return static_cast<std::int64_t>(work_.result_.heads.size());
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& /*lane*/) override {
    HeadAttribution& head = work_.result_.heads[static_cast<std::size_t>(task)];
    const std::int64_t size = work_.plan_.layers[static_cast<std::size_t>(head.layer)].spec.dims.value_head_size;
    const TensorView& output = work_.stack_.layers[static_cast<std::size_t>(head.layer)].output;
    const std::int64_t first = head.head * size;
    const float* values = work_.run_.last_heads(head.layer) + first;
    const std::int64_t end = std::min((step + 1) * rows_, size);
    for (std::int64_t c = step * rows_; c < end; ++c) {
      double target = 0;
      double others = 0;
      if (output.empty()) {  // the concatenation is the output
        target = work_.target_[static_cast<std::size_t>(first + c)];
        others = work_.other_words_[static_cast<std::size_t>(first + c)];
      } else {
        const float* row = FloatsOf(output) + (first + c) * work_.plan_.width;
        target = work_.OfRow(row, work_.target_);
        others = work_.OfRow(row, work_.other_words_);
      }
      head.logit += values[c] * target;
      head.centered_logit += values[c] * (target - others);
    }
    return end < size;
  }

  absl::Status End() override {
    work_.AttributeRest();
    return absl::OkStatus();
  }

 private:
  AttributionWork& work_;
  std::int64_t rows_ = 1;
};

void AttributionWork::Build() {
  Add(std::make_unique<Bets>(*this));
  Add(std::make_unique<MeanWord>(*this));
  Add(std::make_unique<Heads>(*this));
}

void AttributionWork::MakeDirections() {
  const auto width = static_cast<std::size_t>(plan_.width);
  target_.resize(width);
  for (std::size_t e = 0; e < width; ++e) {
    target_[e] = stack_.unembedding[static_cast<std::int64_t>(e) * plan_.words + result_.target.id];
  }
  other_words_ = mean_word_;
  if (stack_.final_norm.weight == nullptr) return;
  const double factor = NormScaleOf(run_.last_row(), plan_.width, stack_.norm_epsilon).factor;
  for (std::vector<double>* direction : {&target_, &other_words_}) {
    double sum = 0;
    for (std::size_t e = 0; e < width; ++e) sum += (*direction)[e] *= factor * stack_.final_norm.weight[e];
    // A row less its mean meets a direction as the row itself meets the direction less its mean.
    for (double& number : *direction) number -= sum / static_cast<double>(width);
  }
}

double AttributionWork::OfRow(const float* row, const std::vector<double>& direction) const {
  return std::inner_product(direction.begin(), direction.end(), row, 0.0);
}

void AttributionWork::AttributeRest() {
  result_.embedding_logit = OfRow(stack_.token_embedding + request_.last_id * plan_.width, target_);
  if (stack_.position_embedding != nullptr) {
    result_.embedding_logit += OfRow(stack_.position_embedding + (plan_.tokens - 1) * plan_.width, target_);
  }
  for (const LayerViews& layer : stack_.layers) {
    if (!layer.output_bias.empty()) result_.bias_logit += OfRow(FloatsOf(layer.output_bias), target_);
  }
  const std::int64_t id = result_.target.id;
  if (stack_.unembedding_bias != nullptr) result_.bias_logit += stack_.unembedding_bias[id];
  if (stack_.final_norm.weight == nullptr || stack_.final_norm.bias == nullptr) return;
  for (std::int64_t e = 0; e < plan_.width; ++e) {
    result_.bias_logit += double{stack_.final_norm.bias[e]} * stack_.unembedding[e * plan_.words + id];
  }
}

}  // namespace headlight
