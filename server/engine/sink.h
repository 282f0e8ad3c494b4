// Where scores go as they are made. The engine declares this and knows nothing of who listens.
#ifndef HEADLIGHT_SERVER_ENGINE_SINK_H_
#define HEADLIGHT_SERVER_ENGINE_SINK_H_

#include <cstdint>

#include "server/base/tensor.h"
#include "server/problem/options.h"

namespace headlight {

// Scores after bias and masks (-inf where a pair may not attend) of rows x keys of one query head.
struct ScoreBlock {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  Range rows;
  Range keys;
  Matrix<const float> scores;  // rows.size() x keys.size()
};

// The end of some rows of one query head.
struct RowsDone {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  Range rows;
  const float* log_sum_exp = nullptr;  // rows.size(); -inf where a row saw no key
};

// Blocks of the same rows come one after the other by ascending key, from one thread at a time, and then their end.
// Different rows come from different threads at once. A key that never comes may not be seen by any of the rows.
class ScoreSink {
 public:
  virtual ~ScoreSink() = default;

  // Before anything else, once, on a worker: the place to allocate.
  virtual void Begin() {}

  // Whether any of these rows matters. Where not, nothing comes for them.
  virtual bool Wants(std::int64_t batch, std::int64_t head, Range rows) const = 0;
  virtual void OnScores(const ScoreBlock& block) = 0;
  virtual void OnRowsDone(const RowsDone& done) = 0;

  // What remains when all rows are done, as independent tasks of steps under a millisecond. False: the task ended.
  virtual std::int64_t finish_tasks() const { return 0; }
  virtual bool Finish(std::int64_t /*task*/, std::int64_t /*step*/) { return false; }
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_SINK_H_
