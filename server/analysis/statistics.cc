#include "server/analysis/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "server/kernels/rows.h"

namespace headlight {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kChunk = 512;

}  // namespace

void StatisticsSink::Begin() {
  const Dimensions& d = spec_.dims;
  rows_.resize(static_cast<std::size_t>(d.batch * d.query_heads * d.query_tokens));
  for (std::int64_t b = 0; b < d.batch; ++b) {
    for (std::int64_t h = 0; h < d.query_heads; ++h) {
      HeadStatistics& result = results_.emplace_back();
      result.batch = b;
      result.head = h;
    }
    if (spec_.position.key_positions.empty()) continue;
    auto& positions = key_positions_.emplace_back();
    for (std::int64_t j = 0; j < spec_.KeyLength(b); ++j) positions.insert(spec_.position.KeyAt(b, j, d.key_tokens));
  }
}

bool StatisticsSink::HasPrevious(std::int64_t batch, std::int64_t position) const {
  if (!key_positions_.empty()) return key_positions_[static_cast<std::size_t>(batch)].contains(position - 1);
  const std::int64_t key = position - 1 - spec_.position.key_offset;
  return key >= 0 && key < spec_.KeyLength(batch);
}

void StatisticsSink::Take(const ScoreBlock& block, std::int64_t row, Range keys, Row& sums) const {
  const float* scores = block.scores.Row(row - block.rows.begin) + (keys.begin - block.keys.begin);
  const float largest = std::max(sums.largest, RowMax(scores, keys.size()));
  if (largest == kNothing) return;
  if (largest > sums.largest) {
    const float factor = std::exp(sums.largest - largest);
    // (score - largest) falls by the same amount for all keys that have passed.
    if (factor > 0) sums.score += (sums.largest - largest) * sums.weight;
    for (float* sum : {&sums.weight, &sums.score, &sums.distance, &sums.previous, &sums.same, &sums.first}) {
      *sum *= factor;
    }
    sums.largest = largest;
  }
  const Dimensions& d = spec_.dims;
  const std::int64_t position = spec_.position.QueryAt(block.batch, row, d.query_tokens);
  float distances[kChunk];
  for (std::int64_t key = keys.begin; key < keys.end; ++key) {
    const std::int64_t distance = position - spec_.position.KeyAt(block.batch, key, d.key_tokens);
    distances[key - keys.begin] = static_cast<float>(std::abs(distance));
    if (distance != 0 && distance != 1 && key != 0) continue;
    const float weight = std::exp(scores[key - keys.begin] - largest);
    if (distance == 1) sums.previous += weight;
    if (distance == 0) sums.same += weight;
    if (key == 0) sums.first += weight;
  }
  const RowMoments moments = ExpMoments(scores, distances, keys.size(), largest);
  sums.weight += moments.weight;
  sums.score += moments.score;
  sums.distance += moments.distance;
}

void StatisticsSink::OnScores(const ScoreBlock& block) {
  for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
    Row& sums = RowAt(block.batch, block.head, row);
    for (std::int64_t key = block.keys.begin; key < block.keys.end; key += kChunk) {
      Take(block, row, {key, std::min(key + kChunk, block.keys.end)}, sums);
    }
  }
}

void StatisticsSink::OnRowsDone(const RowsDone& done) {
  for (std::int64_t row = done.rows.begin; row < done.rows.end; ++row) {
    Row& sums = RowAt(done.batch, done.head, row);
    const RowNorm norm = done.norms[row - done.rows.begin];
    sums.sees = norm.largest != kNothing;
    if (!sums.sees) continue;
    sums.largest = static_cast<float>(sums.largest - done.Shift(row - done.rows.begin));
    // The largest weight is the factor; the logarithm of any other is (score - largest) more.
    const float factor = norm.factor;
    sums.score = factor == 0 ? 0 : -factor * (sums.score + std::log(factor) * sums.weight);
    sums.weight = factor;
    for (float* sum : {&sums.distance, &sums.previous, &sums.same, &sums.first}) *sum *= factor;
  }
}

bool StatisticsSink::Finish(std::int64_t task, std::int64_t /*step*/) {
  HeadStatistics& result = results_[static_cast<std::size_t>(task)];
  double rows = 0;
  double with_previous = 0;
  for (std::int64_t i = 0; i < spec_.dims.query_tokens; ++i) {
    const Row& row = RowAt(result.batch, result.head, i);
    if (!row.sees) continue;
    ++rows;
    result.mean_entropy += row.score;
    result.mean_largest_weight += row.weight;
    result.mean_distance += row.distance;
    result.share_on_same += row.same;
    result.share_on_first += row.first;
    // A row of NaN makes it NaN, and it stays so.
    const float largest = std::isnan(row.weight) ? row.weight : row.largest;
    if (!std::isnan(result.largest_score) && !(result.largest_score >= static_cast<double>(largest))) {
      result.largest_score = largest;
    }
    if (!HasPrevious(result.batch, spec_.position.QueryAt(result.batch, i, spec_.dims.query_tokens))) continue;
    ++with_previous;
    result.share_on_previous += row.previous;
  }
  for (double* sum : {&result.mean_entropy, &result.mean_largest_weight, &result.mean_distance, &result.share_on_same,
                      &result.share_on_first}) {
    *sum /= std::max(rows, 1.0);
  }
  result.share_on_previous /= std::max(with_previous, 1.0);
  return false;
}

}  // namespace headlight
