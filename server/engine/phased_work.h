// A computation as a list of phases, each a set of tasks that any lane may take, each task a run of short steps.
#ifndef HEADLIGHT_SERVER_ENGINE_PHASED_WORK_H_
#define HEADLIGHT_SERVER_ENGINE_PHASED_WORK_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/admission/compute_pool.h"
#include "server/base/memory.h"
#include "server/base/stage.h"

namespace headlight {

// What one lane keeps from unit to unit.
struct Lane {
  float* scratch = nullptr;  // scratch_floats of the work
  double sink_seconds = 0;   // spent in sinks in this phase
};

class Phase {
 public:
  explicit Phase(Stage stage) : stage_(stage) {}
  virtual ~Phase() = default;

  Stage stage() const { return stage_; }

  // Independent tasks; asked once, when the phase begins. May allocate what the phase needs.
  virtual std::int64_t Begin() = 0;

  // Runs step 0, 1, ... of a task, each at most about a millisecond. The steps of a task run in order on one lane;
  // what is in the lane's scratch stays until its task ends. False: the task ended.
  virtual absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) = 0;

  // After all tasks.
  virtual absl::Status End() { return absl::OkStatus(); }

 private:
  Stage stage_;
};

// Builds its phases on a worker, then runs them in order. Not thread-safe beyond Work's own contract.
class PhasedWork : public Work {
 public:
  // Each lane gets `scratch_floats` on the account when it first runs. `accepted` is when waiting
  // began; InfinitePast: it does not wait.
  PhasedWork(MemoryAccount& account, std::int64_t scratch_floats, absl::Time accepted);

  void Add(std::unique_ptr<Phase> phase) { phases_.push_back(std::move(phase)); }

  absl::StatusOr<int> BeginPhase(int workers) final;
  absl::StatusOr<bool> RunUnit(int lane) final;

  // Where the work is, or was when it ended.
  Stage stage() const { return stage_; }

  // Wall time by stage of what has run, all of it since `accepted` (InfinitePast: since the first phase), and the lanes
  // that took part at most.
  const StageTimes& times() const { return times_; }
  double seconds() const { return absl::ToDoubleSeconds(ended_ - accepted_); }
  int lanes() const { return most_lanes_; }

 protected:
  // Adds all phases; runs once, before the first. May allocate.
  virtual void Build() = 0;

 private:
  struct Slot {
    FloatBuffer scratch;
    Lane lane;
    std::int64_t task = -1;  // -1: none in hand
    std::int64_t step = 0;
  };

  absl::Status EndPhase();

  MemoryAccount& account_;
  std::int64_t scratch_floats_;
  absl::Time accepted_;
  std::vector<std::unique_ptr<Phase>> phases_;
  std::size_t next_phase_ = 0;
  Phase* current_ = nullptr;
  absl::Time began_;
  absl::Time ended_;
  std::int64_t tasks_ = 0;
  std::atomic<std::int64_t> next_task_{0};
  std::vector<Slot> slots_;
  int most_lanes_ = 0;
  StageTimes times_;
  Stage stage_ = Stage::kQueue;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_PHASED_WORK_H_
