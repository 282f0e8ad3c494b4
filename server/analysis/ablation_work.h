// Heads switched off: the output without some, and what the loss of each adds up to, as work that runs after attention.
#ifndef HEADLIGHT_SERVER_ANALYSIS_ABLATION_WORK_H_
#define HEADLIGHT_SERVER_ANALYSIS_ABLATION_WORK_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "server/analysis/ablation.h"
#include "server/base/memory.h"
#include "server/base/tensor.h"
#include "server/engine/attention.h"
#include "server/engine/phased_work.h"
#include "server/kernels/matmul.h"

namespace headlight {

// What stands in the place of a head that is off.
enum class AblationMode : std::uint8_t {
  kZero,
  kMean,  // its output's mean over all rows of the call
};

struct Ablation {
  std::vector<std::int64_t> heads;  // off together; in range, none twice
  AblationMode mode = AblationMode::kZero;
  TensorKind kind = TensorKind::kF32;  // of the output
};

// What it takes beside the attention.
struct AblationCost {
  std::int64_t flops = 0;         // sums in double count as much as their time
  std::int64_t workspace = 0;     // bytes without scratch
  std::int64_t lane_scratch = 0;  // bytes
  std::int64_t answer = 0;        // bytes of the output and the mean contribution
};
AblationCost CostOfAblation(const ExecutionPlan& plan, const AttentionData& data, const Ablation& ablation);

// Memory beside copies of what attention made: what all heads add for a block of rows and columns, 4 MiB a lane at
// most. The same bits with any number of lanes.
class AblationWork final : public PhasedWork {
 public:
  // `attention` runs before it, by this plan, with float32 output and head outputs and nothing allowed that is not
  // finite. Everything outlives it.
  AblationWork(const ExecutionPlan& plan, const AttentionData& data, const Ablation& ablation, AttentionWork& attention,
               MemoryAccount& account, MatmulCache& matmuls);

  // When the work ended well. The output without the heads: with kZero the bits of attention with their gains at 0.
  OwnedTensor TakeOutput() { return std::move(output_); }
  // With kMean [Eo] float32 (without an output matrix [Hq x Dv]), what the means of the heads add to every row; else
  // empty.
  OwnedTensor TakeMeanContribution() { return std::move(contribution_); }
  const HeadProducts& products() const { return products_; }

 private:
  void Build() override;
  void AddWeights();
  void AddAblatedHeads();
  void AddOutput();

  const ExecutionPlan& plan_;
  const AttentionData& data_;
  const Ablation& ablation_;
  AttentionWork& attention_;
  MemoryAccount& account_;
  MatmulCache& matmuls_;

  AttentionResult attended_;
  const float* weights_ = nullptr;  // W_o [Hq x Dv, Eo]; null where there is none
  FloatBuffer own_weights_;         // widened
  FloatBuffer means_;               // [Hq x Dv], with kMean
  FloatBuffer concat_;              // [B, T, Hq x Dv], zeros where heads are off
  FloatBuffer off_means_;           // [Hq x Dv], zeros where heads are on
  FloatBuffer projected_;           // [B, T, Eo]
  HeadProducts products_;
  OwnedTensor output_, contribution_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_ABLATION_WORK_H_
