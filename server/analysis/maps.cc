#include "server/analysis/maps.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "server/kernels/convert.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

// Scores are written where the answer's weights will be. An answer in 16 bits is narrowed in place at the end: its
// scores need all of float32 until then.
class FullMapSink final : public MapSink {
 public:
  FullMapSink(const ProblemSpec& spec, std::int64_t index) : MapSink(spec, index), kind_(spec.outputs.kind) {}

  void Begin() override {
    for (MapResult& result : results_) {
      result.weights = MakeTensor(TensorKind::kF32, {result.rows.size(), keys_.size()});
    }
    seen_.resize(results_.size());
    for (std::size_t i = 0; i < results_.size(); ++i)
      seen_[i].resize(static_cast<std::size_t>(results_[i].rows.size()));
  }

  std::int64_t finish_tasks() const override {
    return kind_ == TensorKind::kF32 ? 0 : static_cast<std::int64_t>(results_.size());
  }

  bool Finish(std::int64_t task, std::int64_t step) override {
    constexpr std::int64_t kPiece = std::int64_t{1} << 18;
    OwnedTensor& weights = results_[static_cast<std::size_t>(task)].weights;
    const std::int64_t count = ElementCount(weights.shape).value_or(0);
    const std::int64_t begin = step * kPiece;
    const std::int64_t end = std::min(begin + kPiece, count);
    NarrowRow(kind_, weights.floats() + begin, reinterpret_cast<std::byte*>(weights.bytes.data()) + begin * 2,
              end - begin);
    if (end < count) return true;
    weights.kind = kind_;
    weights.bytes.resize(static_cast<std::size_t>(count * WidthOf(kind_)));
    weights.bytes.shrink_to_fit();
    return false;
  }

 private:
  void TakeRow(MapResult& result, std::int64_t row, Range keys, const float* scores) override {
    std::copy_n(scores, keys.size(), RowOf(result, row) + keys.begin - keys_.begin);
    Seen(result, row) = keys.end - keys_.begin;
  }

  // Columns that never came are 0 as they were made.
  void EndRow(MapResult& result, std::int64_t row, float log_sum_exp) override {
    const std::int64_t seen = Seen(result, row);
    if (log_sum_exp == kForbidden) {
      std::fill_n(RowOf(result, row), seen, 0.0F);
    } else {
      ExpAndSum(RowOf(result, row), seen, log_sum_exp);
    }
  }

  float* RowOf(MapResult& result, std::int64_t row) const {
    return result.weights.floats() + (row - result.rows.begin) * keys_.size();
  }
  std::int64_t& Seen(const MapResult& result, std::int64_t row) {
    return seen_[static_cast<std::size_t>(&result - results_.data())]
                [static_cast<std::size_t>(row - result.rows.begin)];
  }

  TensorKind kind_;
  std::vector<std::vector<std::int64_t>> seen_;
};

// Of each row a heap of the k best scores, the worst on top, in the answer's own arrays.
class TopKeysSink final : public MapSink {
 public:
  TopKeysSink(const ProblemSpec& spec, std::int64_t index)
      : MapSink(spec, index), k_(spec.outputs.maps[static_cast<std::size_t>(index)].top_k) {}

  void Begin() override {
    for (MapResult& result : results_) {
      const auto rows = static_cast<std::size_t>(result.rows.size());
      result.top_keys.k = k_;
      result.top_keys.counts.resize(rows);
      result.top_keys.keys.resize(rows * static_cast<std::size_t>(k_));
      result.top_keys.weights.resize(rows * static_cast<std::size_t>(k_));
    }
  }

 private:
  struct Best {
    TopKeys& top;
    std::size_t row;
    std::uint32_t& count;
    std::uint32_t* keys;
    float* scores;

    // Whether a is better than b: the larger score, then the lower key.
    bool Better(std::uint32_t a, std::uint32_t b) const {
      return scores[a] != scores[b] ? scores[a] > scores[b] : keys[a] < keys[b];
    }
    void Swap(std::uint32_t a, std::uint32_t b) const {
      std::swap(scores[a], scores[b]);
      std::swap(keys[a], keys[b]);
    }
    // Restores the heap below i: every parent is the worst of its subtree.
    void SiftDown(std::uint32_t i, std::uint32_t size) const {
      for (std::uint32_t child = 2 * i + 1; child < size; child = 2 * i + 1) {
        if (child + 1 < size && Better(child, child + 1)) ++child;
        if (!Better(i, child)) return;
        Swap(i, child);
        i = child;
      }
    }
    void SiftUp(std::uint32_t i) const {
      for (; i > 0 && Better((i - 1) / 2, i); i = (i - 1) / 2) Swap(i, (i - 1) / 2);
    }
  };

  static Best BestOf(MapResult& result, std::int64_t row) {
    TopKeys& top = result.top_keys;
    const auto r = static_cast<std::size_t>(row - result.rows.begin);
    const std::size_t first = r * static_cast<std::size_t>(top.k);
    return {top, r, top.counts[r], top.keys.data() + first, top.weights.data() + first};
  }

  void TakeRow(MapResult& result, std::int64_t row, Range keys, const float* scores) override {
    const Best best = BestOf(result, row);
    const auto k = static_cast<std::uint32_t>(result.top_keys.k);
    for (std::int64_t key = keys.begin; key < keys.end; ++key) {
      const float score = scores[key - keys.begin];
      if (score == kForbidden) continue;
      if (best.count < k) {
        best.scores[best.count] = score;
        best.keys[best.count] = static_cast<std::uint32_t>(key);
        best.SiftUp(best.count++);
      } else if (score > best.scores[0]) {  // Keys ascend: on a tie the one there stays.
        best.scores[0] = score;
        best.keys[0] = static_cast<std::uint32_t>(key);
        best.SiftDown(0, k);
      }
    }
  }

  void EndRow(MapResult& result, std::int64_t row, float log_sum_exp) override {
    const Best best = BestOf(result, row);
    // Taking the worst off the top, again and again, leaves the best in front.
    for (std::uint32_t size = best.count; size > 1; --size) {
      best.Swap(0, size - 1);
      best.SiftDown(0, size - 1);
    }
    for (std::uint32_t i = 0; i < best.count; ++i) best.scores[i] = std::exp(best.scores[i] - log_sum_exp);
  }

  std::int64_t k_;
};

}  // namespace

MapSink::MapSink(const ProblemSpec& spec, std::int64_t index) {
  const MapSpec& map = spec.outputs.maps[static_cast<std::size_t>(index)];
  keys_ = map.keys;
  ranges_ = map.rows;
  heads_ = static_cast<std::int64_t>(map.heads.size());
  batch_slot_.assign(static_cast<std::size_t>(spec.dims.batch), -1);
  head_slot_.assign(static_cast<std::size_t>(spec.dims.query_heads), -1);
  for (std::size_t i = 0; i < map.heads.size(); ++i) {
    head_slot_[static_cast<std::size_t>(map.heads[i])] = static_cast<std::int64_t>(i);
  }
  for (std::size_t i = 0; i < map.batches.size(); ++i) {
    batch_slot_[static_cast<std::size_t>(map.batches[i])] = static_cast<std::int64_t>(i);
    for (const std::int64_t head : map.heads) {
      for (const Range& rows : map.rows) {
        MapResult& result = results_.emplace_back();
        result.request_index = index;
        result.batch = map.batches[i];
        result.head = head;
        result.rows = rows;
        result.key_begin = keys_.begin;
      }
    }
  }
}

template <typename F>
void MapSink::ForResults(std::int64_t batch, std::int64_t head, Range rows, F f) {
  const std::int64_t b = batch_slot_[static_cast<std::size_t>(batch)];
  const std::int64_t h = head_slot_[static_cast<std::size_t>(head)];
  if (b < 0 || h < 0) return;
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    const Range part{std::max(rows.begin, ranges_[i].begin), std::min(rows.end, ranges_[i].end)};
    if (part.begin >= part.end) continue;
    f(results_[static_cast<std::size_t>(b * heads_ + h) * ranges_.size() + i], part);
  }
}

bool MapSink::Wants(std::int64_t batch, std::int64_t head, Range rows) const {
  bool wanted = false;
  const_cast<MapSink*>(this)->ForResults(batch, head, rows, [&wanted](MapResult&, Range) { wanted = true; });
  return wanted;
}

void MapSink::OnScores(const ScoreBlock& block) {
  const Range keys{std::max(block.keys.begin, keys_.begin), std::min(block.keys.end, keys_.end)};
  if (keys.begin >= keys.end) return;
  ForResults(block.batch, block.head, block.rows, [&](MapResult& result, Range part) {
    for (std::int64_t row = part.begin; row < part.end; ++row) {
      TakeRow(result, row, keys, block.scores.Row(row - block.rows.begin) + keys.begin - block.keys.begin);
    }
  });
}

void MapSink::OnRowsDone(const RowsDone& done) {
  ForResults(done.batch, done.head, done.rows, [&](MapResult& result, Range part) {
    for (std::int64_t row = part.begin; row < part.end; ++row) {
      EndRow(result, row, done.log_sum_exp[row - done.rows.begin]);
    }
  });
}

std::vector<std::unique_ptr<MapSink>> MakeMapSinks(const ProblemSpec& spec) {
  std::vector<std::unique_ptr<MapSink>> sinks;
  for (std::size_t i = 0; i < spec.outputs.maps.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    if (spec.outputs.maps[i].top_k > 0) {
      sinks.push_back(std::make_unique<TopKeysSink>(spec, index));
    } else {
      sinks.push_back(std::make_unique<FullMapSink>(spec, index));
    }
  }
  return sinks;
}

}  // namespace headlight
