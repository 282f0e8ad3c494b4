// The double reference over a problem: chosen rows of the output from the data itself, one number at a time. Of what
// naive and flash use it shares the mask rules and the rotary frequencies alone.
#ifndef HEADLIGHT_SERVER_ENGINE_REFERENCE_WORK_H_
#define HEADLIGHT_SERVER_ENGINE_REFERENCE_WORK_H_

#include <cstdint>

#include "server/base/memory.h"
#include "server/engine/data.h"
#include "server/engine/phased_work.h"
#include "server/masks/rules.h"
#include "server/plan/planner.h"
#include "server/positions/rotary.h"

namespace headlight {

// A step is one head of one row, or 256 columns of its output projection: some milliseconds at the longest.
class ReferenceWork final : public PhasedWork {
 public:
  // Everything outlives it; `data` was checked.
  ReferenceWork(const ProblemSpec& spec, const ReferencePlan& plan, const AttentionData& data, MemoryAccount& account);

  // Which row of B x Tq the i-th computed one is.
  std::int64_t RowAt(std::int64_t i) const { return i * plan_.rows_total / plan_.rows; }
  // The whole output of the i-th row: all heads side by side, or what the output projection makes of them.
  const double* Row(std::int64_t i) const { return results_.data() + i * width_; }
  std::int64_t width() const { return width_; }

 private:
  class Keys;
  class Rows;

  void Build() override;
  // Makes what is seeded and points `data_` at it.
  void AddSeeds();
  void TurnIfRotary(std::int64_t position, double* row) const;
  // Embedding `token` of a batch, positions added.
  void LoadEmbedding(std::int64_t batch, std::int64_t token, double* out) const;

  const ProblemSpec& spec_;
  const ReferencePlan& plan_;
  AttentionData data_;
  MemoryAccount& account_;
  MaskRules rules_;
  RotaryFrequencies rotary_;
  std::int64_t width_ = 0;
  Buffer<double> keys_, values_;  // [B, Hkv, Tk, D] and [B, Hkv, Tk, Dv]
  Buffer<double> results_;
  FloatBuffer seeded_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_REFERENCE_WORK_H_
