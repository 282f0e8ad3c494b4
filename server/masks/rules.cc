#include "server/masks/rules.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <utility>

#include "server/base/half.h"

namespace headlight {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

// Selected, not added: -inf plus an infinite score would be NaN. False: the sum is not finite and should be.
bool AddBias(float bias, float& score) {
  const float sum = score + bias;
  score = bias == kForbidden ? kForbidden : sum;
  return bias == kForbidden || std::fabs(sum) <= std::numeric_limits<float>::max();
}

}  // namespace

MaskRules::MaskRules(const ProblemSpec& spec, TensorView tensor)
    : dims_(spec.dims), mask_(spec.mask), tensor_(std::move(tensor)) {}

Range MaskRules::RowKeys(std::int64_t batch, std::int64_t row) const {
  const auto b = static_cast<std::size_t>(batch);
  Range keys{0, mask_.key_lengths.empty() ? dims_.key_tokens : mask_.key_lengths[b]};
  if (mask_.tensor.has_value()) keys.end = std::min(keys.end, mask_.tensor->shape[3] - mask_.tensor->first_key);
  if (!mask_.offsets.empty()) {
    const std::int64_t place = row + mask_.offsets[b];
    if (mask_.causal.has_value()) keys.end = std::min(keys.end, place + 1);
    if (mask_.window.has_value() && mask_.window->right.has_value()) {
      keys.end = std::min(keys.end, place + *mask_.window->right + 1);
    }
    if (mask_.window.has_value() && mask_.window->left.has_value()) {
      keys.begin = std::max<std::int64_t>(place - *mask_.window->left, 0);
    }
  }
  keys.end = std::max<std::int64_t>(keys.end, 0);
  return keys;
}

Range MaskRules::VisibleKeys(std::int64_t batch, Range rows) const {
  const Range keys{RowKeys(batch, rows.begin).begin, RowKeys(batch, rows.end - 1).end};
  return {std::min(keys.begin, keys.end), keys.end};
}

std::int64_t MaskRules::QuerySegment(std::int64_t batch, std::int64_t row) const {
  const std::vector<std::int64_t>& ids = mask_.segments->query_ids;
  return ids[PositionSpec::Place(ids, batch, row, dims_.query_tokens)];
}

std::int64_t MaskRules::KeySegment(std::int64_t batch, std::int64_t key) const {
  const std::vector<std::int64_t>& ids = mask_.segments->key_ids;
  return ids[PositionSpec::Place(ids, batch, key, dims_.key_tokens)];
}

Verdict MaskRules::JudgeSegments(const Tile& tile) const {
  if (mask_.segments == nullptr) return Verdict::kFull;
  const auto& queries = mask_.segments->query_ids;
  const auto& keys = mask_.segments->key_ids;
  const auto first = queries.begin() + static_cast<std::ptrdiff_t>(PositionSpec::Place(
                                           queries, tile.batch, tile.rows.begin, dims_.query_tokens));
  const auto key = keys.begin() + static_cast<std::ptrdiff_t>(
                                      PositionSpec::Place(keys, tile.batch, tile.keys.begin, dims_.key_tokens));
  const auto [query_least, query_most] = std::minmax_element(first, first + tile.rows.size());
  const auto [key_least, key_most] = std::minmax_element(key, key + tile.keys.size());
  if (*query_most < *key_least || *key_most < *query_least) return Verdict::kEmpty;
  const bool one = *query_least == *query_most && *key_least == *key_most;
  return one ? Verdict::kFull : Verdict::kPartial;
}

Verdict MaskRules::Judge(const Tile& tile) const {
  const Range first = RowKeys(tile.batch, tile.rows.begin);
  const Range last = RowKeys(tile.batch, tile.rows.end - 1);
  if (tile.keys.begin >= last.end || tile.keys.end <= first.begin) return Verdict::kEmpty;
  const Verdict segments = JudgeSegments(tile);
  if (segments == Verdict::kEmpty || mask_.tensor.has_value()) return std::min(segments, Verdict::kPartial);
  return tile.keys.end <= first.end && tile.keys.begin >= last.begin ? segments : Verdict::kPartial;
}

std::int64_t MaskRules::TensorRow(std::int64_t batch, std::int64_t head, std::int64_t row) const {
  const auto& shape = mask_.tensor->shape;
  const std::int64_t b = shape[0] == 1 ? 0 : batch;
  const std::int64_t h = shape[1] == 1 ? 0 : head;
  const std::int64_t r = shape[2] == 1 ? 0 : row;
  return ((b * shape[1] + h) * shape[2] + r) * shape[3] + mask_.tensor->first_key;
}

void MaskRules::ApplySegments(std::int64_t batch, std::int64_t row, Range keys, float* scores) const {
  if (mask_.segments == nullptr) return;
  const std::int64_t id = QuerySegment(batch, row);
  for (std::int64_t j = keys.begin; j < keys.end; ++j) {
    if (KeySegment(batch, j) != id) scores[j - keys.begin] = kForbidden;
  }
}

bool MaskRules::ApplyTensor(const Tile& tile, std::int64_t row, Range keys, float* scores) const {
  if (tensor_.empty()) return true;
  bool finite = true;
  const std::int64_t first = TensorRow(tile.batch, tile.head, row) + keys.begin;
  switch (tensor_.kind) {
    case TensorKind::kBool: {
      const auto* allowed = reinterpret_cast<const std::uint8_t*>(tensor_.data) + first;
      for (std::int64_t j = 0; j < keys.size(); ++j) scores[j] = allowed[j] != 0 ? scores[j] : kForbidden;
      break;
    }
    case TensorKind::kF32: {
      const auto* bias = reinterpret_cast<const float*>(tensor_.data) + first;
      for (std::int64_t j = 0; j < keys.size(); ++j) finite &= AddBias(bias[j], scores[j]);
      break;
    }
    case TensorKind::kF16:
    case TensorKind::kBF16:
      for (std::int64_t j = 0; j < keys.size(); ++j) finite &= AddBias(ElementAsFloat(tensor_, first + j), scores[j]);
      break;
  }
  return finite;
}

bool MaskRules::Apply(const Tile& tile, Matrix<float> scores) const {
  bool finite = true;
  for (std::int64_t row = tile.rows.begin; row < tile.rows.end; ++row) {
    float* out = scores.Row(row - tile.rows.begin);
    const Range by_rule = RowKeys(tile.batch, row);
    Range seen{std::clamp(by_rule.begin, tile.keys.begin, tile.keys.end), 0};
    seen.end = std::clamp(by_rule.end, seen.begin, tile.keys.end);
    float* of_seen = out + (seen.begin - tile.keys.begin);
    std::fill(out, of_seen, kForbidden);
    std::fill(of_seen + seen.size(), out + tile.keys.size(), kForbidden);
    finite &= ApplyTensor(tile, row, seen, of_seen);
    ApplySegments(tile.batch, row, seen, of_seen);
  }
  return finite;
}

double MaskRules::Bias(std::int64_t batch, std::int64_t head, std::int64_t row, std::int64_t key) const {
  const Range keys = RowKeys(batch, row);
  if (key < keys.begin || key >= keys.end) return kForbidden;
  if (mask_.segments != nullptr && QuerySegment(batch, row) != KeySegment(batch, key)) return kForbidden;
  if (tensor_.empty()) return 0;
  const float value = ElementAsFloat(tensor_, TensorRow(batch, head, row) + key);
  if (tensor_.kind == TensorKind::kBool) return value != 0 ? 0 : kForbidden;
  return value;
}

bool MaskRules::Allows(std::int64_t batch, std::int64_t head, std::int64_t row, std::int64_t key) const {
  return Bias(batch, head, row, key) != kForbidden;
}

std::int64_t MaskRules::PairsOfSegments(std::int64_t batch) const {
  // Both ends of a row's keys only rise, so every key enters and leaves the count once.
  std::unordered_map<std::int64_t, std::int64_t> count;  // not abseil's: it dies of a bad_alloc
  Range counted{0, 0};
  std::int64_t pairs = 0;
  for (std::int64_t row = 0; row < dims_.query_tokens; ++row) {
    const Range keys = RowKeys(batch, row);
    for (; counted.end < keys.end; ++counted.end) ++count[KeySegment(batch, counted.end)];
    for (; counted.begin < std::min(keys.begin, counted.end); ++counted.begin) {
      --count[KeySegment(batch, counted.begin)];
    }
    const auto found = count.find(QuerySegment(batch, row));
    if (keys.begin < keys.end && found != count.end()) pairs += found->second;
  }
  return pairs;
}

std::int64_t MaskRules::VisiblePairs() const {
  // Without lengths and segments of their own all batches are alike.
  const bool alike = mask_.key_lengths.empty() && mask_.segments == nullptr;
  const std::int64_t batches = alike ? std::min<std::int64_t>(dims_.batch, 1) : dims_.batch;
  std::int64_t pairs = 0;
  for (std::int64_t b = 0; b < batches; ++b) {
    if (mask_.segments != nullptr) {
      pairs += PairsOfSegments(b);
      continue;
    }
    for (std::int64_t row = 0; row < dims_.query_tokens; ++row) {
      pairs += std::max<std::int64_t>(RowKeys(b, row).size(), 0);
    }
  }
  return alike ? pairs * dims_.batch : pairs;
}

}  // namespace headlight
