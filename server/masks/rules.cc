#include "server/masks/rules.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

std::int64_t MaskRules::KeyEnd(std::int64_t batch, std::int64_t row) const {
  const auto b = static_cast<std::size_t>(batch);
  std::int64_t end = mask_.key_lengths.empty() ? dims_.key_tokens : mask_.key_lengths[b];
  if (mask_.causal.has_value()) end = std::min(end, row + mask_.causal_offsets[b] + 1);
  if (mask_.tensor.has_value()) end = std::min(end, mask_.tensor->shape[3]);
  return std::max<std::int64_t>(end, 0);
}

Range MaskRules::VisibleKeys(std::int64_t batch, Range rows) const { return {0, KeyEnd(batch, rows.end - 1)}; }

Verdict MaskRules::Judge(const Tile& tile) const {
  if (tile.keys.begin >= KeyEnd(tile.batch, tile.rows.end - 1)) return Verdict::kEmpty;
  if (mask_.tensor.has_value()) return Verdict::kPartial;
  return tile.keys.end <= KeyEnd(tile.batch, tile.rows.begin) ? Verdict::kFull : Verdict::kPartial;
}

std::int64_t MaskRules::TensorRow(std::int64_t batch, std::int64_t head, std::int64_t row) const {
  const auto& shape = mask_.tensor->shape;
  const std::int64_t b = shape[0] == 1 ? 0 : batch;
  const std::int64_t h = shape[1] == 1 ? 0 : head;
  const std::int64_t r = shape[2] == 1 ? 0 : row;
  return ((b * shape[1] + h) * shape[2] + r) * shape[3];
}

bool MaskRules::Apply(const Tile& tile, Matrix<float> scores) const {
  bool finite = true;
  for (std::int64_t row = tile.rows.begin; row < tile.rows.end; ++row) {
    float* out = scores.Row(row - tile.rows.begin);
    const std::int64_t seen = std::clamp(KeyEnd(tile.batch, row), tile.keys.begin, tile.keys.end) - tile.keys.begin;
    std::fill(out + seen, out + tile.keys.size(), kForbidden);
    if (tensor_.empty()) continue;
    const std::int64_t first = TensorRow(tile.batch, tile.head, row) + tile.keys.begin;
    switch (tensor_.kind) {
      case TensorKind::kBool: {
        const auto* allowed = reinterpret_cast<const std::uint8_t*>(tensor_.data) + first;
        for (std::int64_t j = 0; j < seen; ++j) out[j] = allowed[j] != 0 ? out[j] : kForbidden;
        break;
      }
      case TensorKind::kF32: {
        const auto* bias = reinterpret_cast<const float*>(tensor_.data) + first;
        for (std::int64_t j = 0; j < seen; ++j) finite &= AddBias(bias[j], out[j]);
        break;
      }
      case TensorKind::kF16:
      case TensorKind::kBF16:
        for (std::int64_t j = 0; j < seen; ++j) finite &= AddBias(ElementAsFloat(tensor_, first + j), out[j]);
        break;
    }
  }
  return finite;
}

double MaskRules::Bias(std::int64_t batch, std::int64_t head, std::int64_t row, std::int64_t key) const {
  if (key >= KeyEnd(batch, row)) return kForbidden;
  if (tensor_.empty()) return 0;
  const float value = ElementAsFloat(tensor_, TensorRow(batch, head, row) + key);
  if (tensor_.kind == TensorKind::kBool) return value != 0 ? 0 : kForbidden;
  return value;
}

std::int64_t MaskRules::VisiblePairs() const {
  std::int64_t pairs = 0;
  for (std::int64_t b = 0; b < dims_.batch; ++b) {
    for (std::int64_t row = 0; row < dims_.query_tokens; ++row) pairs += KeyEnd(b, row);
  }
  return pairs;
}

}  // namespace headlight
