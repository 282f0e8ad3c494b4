// Pooled maps and column sums. Both need all rows' final numbers, so they are made from sweeps. Sums are taken in
// double and in the order of rows and keys: the same bits with any number of threads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "server/analysis/maps.h"

namespace headlight {
namespace {

// Cells of one sweep cover at least so many rows, where there are: a tile is not wasted on a few.
constexpr std::int64_t kBandRows = 64;
// But a sweep has no more cells than these: their sums, in double, take 256 KiB, and turning them into the answer's
// numbers a fraction of a millisecond.
constexpr std::int64_t kMostCells = 32'768;
// Keys of one sweep of column sums.
constexpr std::int64_t kSpanKeys = 512;

// One axis of `count` rows or keys cut into `cells`.
struct Cut {
  std::int64_t count = 0;
  std::int64_t cells = 0;

  // The first of cell r; of `cells`, the end.
  std::int64_t Begin(std::int64_t cell) const { return cell * count / cells; }
  // The cell of an index.
  std::int64_t Of(std::int64_t index) const { return ((index + 1) * cells - 1) / count; }
};

class PooledSink final : public MapSink {
 public:
  PooledSink(const ProblemSpec& spec, std::int64_t index) : MapSink(spec, index), pooled_(*map_.pooled) {
    for (std::size_t i = 0; i < results_.size(); ++i) {
      const Range rows = results_[i].rows;
      const Cut cut{rows.size(), pooled_.rows};
      for (std::int64_t cell = 0; cell < pooled_.rows;) {
        const std::int64_t begin = cell++;
        while (cell < pooled_.rows && cut.Begin(cell) - cut.Begin(begin) < kBandRows) ++cell;
        AddBand(i, {rows.begin + cut.Begin(begin), rows.begin + cut.Begin(cell)}, {begin, cell});
      }
    }
  }

  void Begin() override {
    for (MapResult& result : results_) {
      result.weights = MakeTensor(TensorKind::kF32, {pooled_.rows, pooled_.columns});
    }
  }

  void OnSweep(std::size_t sweep, const ScoreBlock& block) override {
    Band& band = bands_[sweep];
    MakeSums(band);
    const bool max = pooled_.reducer == PoolReducer::kMax;
    const Range rows = results_[ResultOf(sweep)].rows;
    const Cut row_cut{rows.size(), pooled_.rows};
    const Cut key_cut{map_.keys.size(), pooled_.columns};
    for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
      double* cells = band.sums.data() + (row_cut.Of(row - rows.begin) - band.cells.begin) * band.columns.size() -
                      band.columns.begin;
      const float* values = block.scores.Row(row - block.rows.begin) - block.keys.begin;
      for (std::int64_t key = block.keys.begin; key < block.keys.end;) {
        const std::int64_t column = key_cut.Of(key - map_.keys.begin);
        const std::int64_t end = std::min(map_.keys.begin + key_cut.Begin(column + 1), block.keys.end);
        double& cell = cells[column];
        for (; key < end; ++key) cell = max ? Larger(cell, values[key]) : cell + values[key];
      }
    }
  }

  void OnSweepDone(std::size_t sweep) override {
    Band& band = bands_[sweep];
    MakeSums(band);
    MapResult& result = results_[ResultOf(sweep)];
    const Cut row_cut{result.rows.size(), pooled_.rows};
    const Cut key_cut{map_.keys.size(), pooled_.columns};
    for (std::int64_t cell = band.cells.begin; cell < band.cells.end; ++cell) {
      const double* sums = band.sums.data() + (cell - band.cells.begin) * band.columns.size() - band.columns.begin;
      for (std::int64_t column = band.columns.begin; column < band.columns.end; ++column) {
        double value = sums[column];
        if (pooled_.reducer == PoolReducer::kMean) {
          value /= static_cast<double>((row_cut.Begin(cell + 1) - row_cut.Begin(cell)) *
                                       (key_cut.Begin(column + 1) - key_cut.Begin(column)));
        }
        result.weights.floats()[cell * pooled_.columns + column] = static_cast<float>(value);
      }
    }
    band.sums = {};
  }

 private:
  // Rows and columns of cells of one sweep, and their sums while the sweep goes on.
  struct Band {
    Range cells;
    Range columns;
    std::vector<double> sums;
  };

  // Unless they are there. What does not come is 0, which no weight is below.
  void MakeSums(Band& band) const {
    if (!band.sums.empty()) return;
    const bool below = pooled_.reducer == PoolReducer::kMax && map_.stage != MapStage::kWeights;
    band.sums.assign(static_cast<std::size_t>(band.cells.size() * band.columns.size()),
                     below ? -std::numeric_limits<double>::infinity() : 0);
  }

  // A band as sweeps of as many columns as there is room for.
  void AddBand(std::size_t result, Range rows, Range cells) {
    const Cut cut{map_.keys.size(), pooled_.columns};
    const std::int64_t width = std::max<std::int64_t>(1, kMostCells / cells.size());
    for (std::int64_t column = 0; column < pooled_.columns; column += width) {
      const Range columns{column, std::min(column + width, pooled_.columns)};
      AddSweep(result, rows, {map_.keys.begin + cut.Begin(columns.begin), map_.keys.begin + cut.Begin(columns.end)});
      bands_.push_back({cells, columns, {}});
    }
  }

  // NaN stays.
  static double Larger(double cell, double value) { return std::isnan(cell) || value <= cell ? cell : value; }

  PooledSpec pooled_;
  std::vector<Band> bands_;
};

class ColumnSumsSink final : public MapSink {
 public:
  ColumnSumsSink(const ProblemSpec& spec, std::int64_t index) : MapSink(spec, index) {
    for (std::size_t i = 0; i < results_.size(); ++i) {
      for (std::int64_t key = map_.keys.begin; key < map_.keys.end; key += kSpanKeys) {
        AddSweep(i, results_[i].rows, {key, std::min(key + kSpanKeys, map_.keys.end)});
        sums_.emplace_back();
      }
    }
  }

  void Begin() override {
    for (MapResult& result : results_) result.weights = MakeTensor(TensorKind::kF32, {map_.keys.size()});
  }

  void OnSweep(std::size_t sweep, const ScoreBlock& block) override {
    const Range span = SweepAt(sweep).keys;
    sums_[sweep].resize(static_cast<std::size_t>(span.size()));
    double* sums = sums_[sweep].data() + (block.keys.begin - span.begin);
    for (std::int64_t r = 0; r < block.rows.size(); ++r) {
      for (std::int64_t j = 0; j < block.keys.size(); ++j) sums[j] += block.scores.Row(r)[j];
    }
  }

  void OnSweepDone(std::size_t sweep) override {
    float* out = results_[ResultOf(sweep)].weights.floats() + (SweepAt(sweep).keys.begin - map_.keys.begin);
    for (const double sum : sums_[sweep]) *out++ = static_cast<float>(sum);
    sums_[sweep] = {};
  }

 private:
  std::vector<std::vector<double>> sums_;  // per sweep, while it goes on
};

}  // namespace

std::unique_ptr<MapSink> MakePooledSink(const ProblemSpec& spec, std::int64_t index) {
  return std::make_unique<PooledSink>(spec, index);
}

std::unique_ptr<MapSink> MakeColumnSumsSink(const ProblemSpec& spec, std::int64_t index) {
  return std::make_unique<ColumnSumsSink>(spec, index);
}

}  // namespace headlight
