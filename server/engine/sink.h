// Where scores go as they are made. The engine declares this and knows nothing of who listens.
#ifndef HEADLIGHT_SERVER_ENGINE_SINK_H_
#define HEADLIGHT_SERVER_ENGINE_SINK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "server/base/tensor.h"
#include "server/kernels/rows.h"
#include "server/masks/rules.h"
#include "server/problem/options.h"

namespace headlight {

// Rows x keys of one query head at some stage.
struct ScoreBlock {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  Range rows;
  Range keys;
  Matrix<const float> scores;  // rows.size() x keys.size()
  const MaskRules& rules;
};

// The end of some rows of one query head.
struct RowsDone {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  Range rows;
  const RowNorm* norms = nullptr;  // rows.size()
  // ALiBi: the distance at which its bias counts as nothing, of each row; null with other schemes.
  const std::int64_t* bases = nullptr;
  float slope = 0;

  // By how much the scores that sinks saw, and `largest`, of the i-th row are above what they are.
  double Shift(std::int64_t i) const {
    return bases == nullptr ? 0 : static_cast<double>(slope) * static_cast<double>(bases[i]);
  }
};

// A rectangle that a sink wants to see once more when attention is done, at any stage.
struct Sweep {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  Range rows;
  Range keys;
  MapStage stage = MapStage::kWeights;
};

// While attention runs, scores after bias and masks (-inf where a pair may not attend) come: blocks of the same rows
// one after the other by ascending key, from one thread at a time, and then their end. Different rows come from
// different threads at once. A key that never comes may not be seen by any of the rows. Afterwards sweeps come: blocks
// of one sweep from one thread at a time, rows outermost, keys ascending, whatever the algorithm and the number of
// threads; different sweeps at once. Raw stages show forbidden pairs, too; blocks of weights that are 0 may be missing.
class ScoreSink {
 public:
  virtual ~ScoreSink() = default;

  // Before anything else, once, on a worker: the place to allocate.
  virtual void Begin() {}

  // Whether any of these rows matters. Where not, nothing comes for them.
  virtual bool Wants(std::int64_t batch, std::int64_t head, Range rows) const = 0;
  virtual void OnScores(const ScoreBlock& block) = 0;
  virtual void OnRowsDone(const RowsDone& done) = 0;

  // Asked after Begin.
  virtual std::vector<Sweep> Sweeps() const { return {}; }
  virtual void OnSweep(std::size_t /*sweep*/, const ScoreBlock& /*block*/) {}
  virtual void OnSweepDone(std::size_t /*sweep*/) {}

  // What remains when all rows are done, as independent tasks of steps under a millisecond. False: the task ended.
  virtual std::int64_t finish_tasks() const { return 0; }
  virtual bool Finish(std::int64_t /*task*/, std::int64_t /*step*/) { return false; }
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_SINK_H_
