// COMPUTE: one attention call from bound data to its result, as work for the pool.
#ifndef HEADLIGHT_SERVER_ENGINE_ATTENTION_H_
#define HEADLIGHT_SERVER_ENGINE_ATTENTION_H_

#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "server/engine/call.h"
#include "server/engine/data.h"
#include "server/engine/phased_work.h"
#include "server/engine/prepare.h"
#include "server/engine/sink.h"
#include "server/engine/watch.h"
#include "server/plan/planner.h"

namespace headlight {

// What really ran and what it cost. Seconds; bytes at their peak.
struct ExecutionRecord {
  Algorithm algorithm = Algorithm::kFlash;
  StageTimes times;
  double total_seconds = 0;  // from acceptance to the end of the last phase
  int workers = 0;
  std::int64_t scratch_bytes = 0;
  std::int64_t packed_bytes = 0;
  std::int64_t projection_bytes = 0;
  std::int64_t workspace_bytes = 0;
};

// What is not asked for is empty.
struct AttentionResult {
  OwnedTensor output;        // ProblemSpec::OutputShape
  OwnedTensor log_sum_exp;   // [B, Hq, Tq] float32
  OwnedTensor head_outputs;  // [B, Hq, Tq, Dv]
};

// Checks the values, projects, attends, and hands scores to the sinks. Fails with INVALID_ARGUMENT where a value may
// not be (see check_values.h), INTERNAL where a library fails.
class AttentionWork final : public PhasedWork {
 public:
  // `plan`, `account`, `matmuls`, the sinks and what `data` views outlive it. `accepted` is when waiting began;
  // `watch`: or null.
  AttentionWork(const ExecutionPlan& plan, const AttentionData& data, MemoryAccount& account, MatmulCache& matmuls,
                std::vector<ScoreSink*> sinks, absl::Time accepted, const Watch* watch = nullptr);

  // After the work ended well; what has room in `watch` is empty.
  AttentionResult TakeResult() { return std::move(result_); }
  // Of ProblemSpec::OutputShape; no data where it is not asked for, or was taken.
  const TensorView& output() const { return output_; }
  ExecutionRecord Record() const;

 private:
  void Build() override;

  // Places for what is asked for: in `watch`, or of its own.
  void MakeRoom();

  CallState call_;
  AttentionResult result_;
  TensorView output_;
  Projection projection_;
  Packed packed_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_ATTENTION_H_
