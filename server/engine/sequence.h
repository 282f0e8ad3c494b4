// Works one after the other, as one.
#ifndef HEADLIGHT_SERVER_ENGINE_SEQUENCE_H_
#define HEADLIGHT_SERVER_ENGINE_SEQUENCE_H_

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "server/engine/phased_work.h"

namespace headlight {

// Not thread-safe beyond Work's own contract.
class Sequence final : public Work {
 public:
  // At least one; they outlive it.
  explicit Sequence(std::vector<PhasedWork*> works) : works_(std::move(works)) {}

  absl::StatusOr<int> BeginPhase(int workers) override {
    for (; current_ < works_.size(); ++current_) {
      absl::StatusOr<int> lanes = works_[current_]->BeginPhase(workers);
      if (!lanes.ok() || *lanes > 0) return lanes;
    }
    return 0;
  }

  absl::StatusOr<bool> RunUnit(int lane) override { return works_[current_]->RunUnit(lane); }

  // Where the work is, or was when it ended.
  Stage stage() const { return works_[std::min(current_, works_.size() - 1)]->stage(); }

 private:
  std::vector<PhasedWork*> works_;
  std::size_t current_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_SEQUENCE_H_
