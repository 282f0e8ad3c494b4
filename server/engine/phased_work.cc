#include "server/engine/phased_work.h"

#include <algorithm>

#include "absl/time/clock.h"

namespace headlight {

PhasedWork::PhasedWork(MemoryAccount& account, std::int64_t scratch_floats, absl::Time accepted)
    : account_(account), scratch_floats_(scratch_floats), accepted_(accepted) {}

absl::Status PhasedWork::EndPhase() {
  if (current_ == nullptr) return absl::OkStatus();
  double in_sinks = 0;
  for (Slot& slot : slots_) in_sinks += std::exchange(slot.lane.sink_seconds, 0);
  in_sinks /= static_cast<double>(slots_.size());
  ended_ = absl::Now();
  const double wall = absl::ToDoubleSeconds(ended_ - began_);
  times_[current_->stage()] += std::max(wall - in_sinks, 0.0);
  times_[Stage::kMaps] += in_sinks;
  absl::Status status = current_->End();
  current_ = nullptr;
  // What the phase held (the grid of scores, say) is not needed while the next one runs.
  phases_[next_phase_ - 1].reset();
  return status;
}

absl::StatusOr<int> PhasedWork::BeginPhase(int workers) {
  if (phases_.empty()) {
    const absl::Time now = absl::Now();
    if (accepted_ == absl::InfinitePast()) accepted_ = now;
    times_[Stage::kQueue] = absl::ToDoubleSeconds(now - accepted_);
    Build();
  }
  if (absl::Status status = EndPhase(); !status.ok()) return status;
  while (next_phase_ < phases_.size()) {
    current_ = phases_[next_phase_++].get();
    began_ = absl::Now();
    stage_ = current_->stage();
    tasks_ = current_->Begin();
    next_task_.store(0);
    const int lanes = static_cast<int>(std::min<std::int64_t>(workers, tasks_));
    if (slots_.size() < static_cast<std::size_t>(lanes)) slots_.resize(static_cast<std::size_t>(lanes));
    if (lanes > 0) {
      most_lanes_ = std::max(most_lanes_, lanes);
      return lanes;
    }
    if (slots_.empty()) slots_.resize(1);
    if (absl::Status status = EndPhase(); !status.ok()) return status;
  }
  slots_.clear();
  return 0;
}

absl::StatusOr<bool> PhasedWork::RunUnit(int index) {
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  if (slot.scratch.empty()) {
    slot.scratch = FloatBuffer(account_, MemoryUse::kScratch, scratch_floats_);
    slot.lane.scratch = slot.scratch.data();
  }
  if (slot.task < 0) {
    slot.task = next_task_.fetch_add(1, std::memory_order_relaxed);
    slot.step = 0;
    if (slot.task >= tasks_) {
      slot.task = -1;
      return false;
    }
  }
  const absl::StatusOr<bool> more = current_->Run(slot.task, slot.step++, slot.lane);
  if (!more.ok()) return more.status();
  if (!*more) slot.task = -1;
  return true;
}

}  // namespace headlight
