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
// Rows of one sweep: as many as a tile has, so that sweeps go side by side.
constexpr std::int64_t kSweepRows = 64;

// Scores as they are, from scores that are `shift` above.
void Lower(float* scores, std::int64_t n, double shift) {
  for (std::int64_t i = 0; shift != 0 && i < n; ++i) {
    scores[i] = static_cast<float>(static_cast<double>(scores[i]) - shift);
  }
}

// Maps that are made row by row, the same way from what passes while attention runs and from sweeps.
class RowSink : public MapSink {
 protected:
  RowSink(const ProblemSpec& spec, std::int64_t index) : MapSink(spec, index) {
    if (!map_.IsSweep()) return;
    for (std::size_t i = 0; i < results_.size(); ++i) {
      const Range rows = results_[i].rows;
      for (std::int64_t row = rows.begin; row < rows.end; row += kSweepRows) {
        AddSweep(i, {row, std::min(row + kSweepRows, rows.end)}, map_.keys);
      }
    }
  }

 private:
  void OnSweep(std::size_t sweep, const ScoreBlock& block) final {
    for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
      TakeRow(results_[ResultOf(sweep)], block, row, block.keys);
    }
  }
  void OnSweepDone(std::size_t sweep) final {
    const Range rows = SweepAt(sweep).rows;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) EndRow(results_[ResultOf(sweep)], row, {}, 0);
  }
};

// Scores are written where the answer's numbers will be.
class FullMapSink final : public RowSink {
 public:
  FullMapSink(const ProblemSpec& spec, std::int64_t index) : RowSink(spec, index) {}

  void Begin() override {
    for (MapResult& result : results_) {
      result.weights = MakeTensor(TensorKind::kF32, {result.rows.size(), map_.keys.size()});
      seen_.emplace_back(static_cast<std::size_t>(result.rows.size()));
    }
  }

 private:
  void TakeRow(MapResult& result, const ScoreBlock& block, std::int64_t row, Range keys) override {
    float* out = RowOf(result, row);
    std::int64_t& seen = Seen(result, row);
    const std::int64_t begin = keys.begin - map_.keys.begin;
    std::fill(out + seen, out + begin, kForbidden);
    std::copy_n(block.scores.Row(row - block.rows.begin) + keys.begin - block.keys.begin, keys.size(), out + begin);
    seen = begin + keys.size();
  }

  // Columns that did not come at the end are 0 as they were made.
  void EndRow(MapResult& result, std::int64_t row, RowNorm norm, double shift) override {
    float* out = RowOf(result, row);
    const std::int64_t seen = Seen(result, row);
    if (result.stage == MapStage::kWeights) {
      WeightsFromScores(out, seen, norm);
    } else {
      Lower(out, seen, shift);
      std::fill(out + seen, out + map_.keys.size(), kForbidden);
    }
  }

  float* RowOf(MapResult& result, std::int64_t row) const {
    return result.weights.floats() + (row - result.rows.begin) * map_.keys.size();
  }
  std::int64_t& Seen(const MapResult& result, std::int64_t row) {
    return seen_[static_cast<std::size_t>(&result - results_.data())]
                [static_cast<std::size_t>(row - result.rows.begin)];
  }

  std::vector<std::vector<std::int64_t>> seen_;  // columns that have come, of each row of each result
};

// Of each row a heap of the k best scores, the worst on top, in the answer's own arrays.
class TopKeysSink final : public RowSink {
 public:
  TopKeysSink(const ProblemSpec& spec, std::int64_t index) : RowSink(spec, index) {}

  void Begin() override {
    for (MapResult& result : results_) {
      const auto rows = static_cast<std::size_t>(result.rows.size());
      result.top_keys.k = map_.top_k;
      result.top_keys.counts.resize(rows);
      result.top_keys.keys.resize(rows * static_cast<std::size_t>(map_.top_k));
      result.top_keys.weights.resize(rows * static_cast<std::size_t>(map_.top_k));
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

  void TakeRow(MapResult& result, const ScoreBlock& block, std::int64_t row, Range keys) override {
    const Best best = BestOf(result, row);
    const auto k = static_cast<std::uint32_t>(result.top_keys.k);
    const float* scores = block.scores.Row(row - block.rows.begin) - block.keys.begin;
    for (std::int64_t key = keys.begin; key < keys.end; ++key) {
      const float score = scores[key];
      if (best.count == k && !(score > best.scores[0])) continue;  // Keys ascend: on a tie the one there stays.
      // Raw scores do not say what is forbidden; the rules do, and are asked only where it matters.
      if (IsRaw(result.stage) ? !block.rules.Allows(block.batch, block.head, row, key) : score == kForbidden) continue;
      if (best.count < k) {
        best.scores[best.count] = score;
        best.keys[best.count] = static_cast<std::uint32_t>(key);
        best.SiftUp(best.count++);
      } else {
        best.scores[0] = score;
        best.keys[0] = static_cast<std::uint32_t>(key);
        best.SiftDown(0, k);
      }
    }
  }

  void EndRow(MapResult& result, std::int64_t row, RowNorm norm, double shift) override {
    const Best best = BestOf(result, row);
    // Taking the worst off the top, again and again, leaves the best in front.
    for (std::uint32_t size = best.count; size > 1; --size) {
      best.Swap(0, size - 1);
      best.SiftDown(0, size - 1);
    }
    if (result.stage != MapStage::kWeights) return Lower(best.scores, best.count, shift);
    for (std::uint32_t i = 0; i < best.count; ++i) {
      best.scores[i] = std::exp(best.scores[i] - norm.largest) * norm.factor;
      // Different scores may have come to equal weights, such as 0.
      for (std::uint32_t at = i; at > 0 && best.Better(at, at - 1); --at) best.Swap(at, at - 1);
    }
  }
};

}  // namespace

MapSink::MapSink(const ProblemSpec& spec, std::int64_t index)
    : map_(spec.outputs.maps[static_cast<std::size_t>(index)]), kind_(spec.outputs.kind) {
  batch_slot_.assign(static_cast<std::size_t>(spec.dims.batch), -1);
  head_slot_.assign(static_cast<std::size_t>(spec.dims.query_heads), -1);
  for (std::size_t i = 0; i < map_.heads.size(); ++i) {
    head_slot_[static_cast<std::size_t>(map_.heads[i])] = static_cast<std::int64_t>(i);
  }
  for (std::size_t i = 0; i < map_.batches.size(); ++i) {
    batch_slot_[static_cast<std::size_t>(map_.batches[i])] = static_cast<std::int64_t>(i);
    for (const std::int64_t head : map_.heads) {
      for (const Range& rows : map_.rows) {
        MapResult& result = results_.emplace_back();
        result.request_index = index;
        result.batch = map_.batches[i];
        result.head = head;
        result.stage = map_.stage;
        result.rows = rows;
        result.key_begin = map_.keys.begin;
      }
    }
  }
}

void MapSink::AddSweep(std::size_t result, Range rows, Range keys) {
  sweeps_.push_back({results_[result].batch, results_[result].head, rows, keys, map_.stage});
  result_of_sweep_.push_back(result);
}

std::int64_t MapSink::finish_tasks() const {
  const bool narrows = kind_ != TensorKind::kF32 && map_.top_k == 0;
  return narrows ? static_cast<std::int64_t>(results_.size()) : 0;
}

bool MapSink::Finish(std::int64_t task, std::int64_t step) {
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

template <typename F>
void MapSink::ForResults(std::int64_t batch, std::int64_t head, Range rows, F f) {
  const std::int64_t b = batch_slot_[static_cast<std::size_t>(batch)];
  const std::int64_t h = head_slot_[static_cast<std::size_t>(head)];
  if (b < 0 || h < 0 || map_.IsSweep()) return;
  const std::size_t first = static_cast<std::size_t>(b) * map_.heads.size() + static_cast<std::size_t>(h);
  for (std::size_t i = 0; i < map_.rows.size(); ++i) {
    const Range part{std::max(rows.begin, map_.rows[i].begin), std::min(rows.end, map_.rows[i].end)};
    if (part.begin >= part.end) continue;
    f(results_[first * map_.rows.size() + i], part);
  }
}

bool MapSink::Wants(std::int64_t batch, std::int64_t head, Range rows) const {
  bool wanted = false;
  const_cast<MapSink*>(this)->ForResults(batch, head, rows, [&wanted](MapResult&, Range) { wanted = true; });
  return wanted;
}

void MapSink::OnScores(const ScoreBlock& block) {
  const Range keys{std::max(block.keys.begin, map_.keys.begin), std::min(block.keys.end, map_.keys.end)};
  if (keys.begin >= keys.end) return;
  ForResults(block.batch, block.head, block.rows, [&](MapResult& result, Range part) {
    for (std::int64_t row = part.begin; row < part.end; ++row) TakeRow(result, block, row, keys);
  });
}

void MapSink::OnRowsDone(const RowsDone& done) {
  ForResults(done.batch, done.head, done.rows, [&](MapResult& result, Range part) {
    for (std::int64_t row = part.begin; row < part.end; ++row) {
      const std::int64_t i = row - done.rows.begin;
      EndRow(result, row, done.norms[i], done.Shift(i));
    }
  });
}

std::vector<std::unique_ptr<MapSink>> MakeMapSinks(const ProblemSpec& spec) {
  std::vector<std::unique_ptr<MapSink>> sinks;
  for (std::size_t i = 0; i < spec.outputs.maps.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    const MapSpec& map = spec.outputs.maps[i];
    if (map.pooled.has_value()) {
      sinks.push_back(MakePooledSink(spec, index));
    } else if (map.column_sums) {
      sinks.push_back(MakeColumnSumsSink(spec, index));
    } else if (map.top_k > 0) {
      sinks.push_back(std::make_unique<TopKeysSink>(spec, index));
    } else {
      sinks.push_back(std::make_unique<FullMapSink>(spec, index));
    }
  }
  return sinks;
}

}  // namespace headlight
