// Attention to parts of the keys, joined to attention to all of them.
#ifndef HEADLIGHT_SERVER_ENGINE_MERGE_H_
#define HEADLIGHT_SERVER_ENGINE_MERGE_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "server/base/memory.h"
#include "server/base/tensor.h"
#include "server/engine/phased_work.h"
#include "server/kernels/matmul.h"
#include "server/plan/planner.h"
#include "server/problem/options.h"

namespace headlight {

// What attention to one part of the keys gave.
struct PartialViews {
  TensorView output;       // [B, H, T, Dv] or, token-major, [B, T, H x Dv]
  TensorView log_sum_exp;  // [B, H, T] float32
};

struct MergeProblem {
  std::int64_t batch = 0, heads = 0, tokens = 0, value_head_size = 0;
  HeadLayout layout = HeadLayout::kHeadMajor;
  Shape output_shape;  // of the answer
  TensorKind output_kind = TensorKind::kF32;
  std::vector<PartialViews> partials;      // at least one
  std::vector<float> sinks, head_gains;    // H of them, or empty
  TensorView output_weights, output_bias;  // [H x Dv, Eo] and [Eo], or empty
  ProjectionBlocks blocks;                 // of the product with them

  std::int64_t concat_width() const { return heads * value_head_size; }
  std::int64_t output_width() const { return output_weights.empty() ? 0 : output_weights.shape[1]; }
};

// What it takes.
struct MergeCost {
  std::int64_t joined = 0;        // numbers that are multiplied and added
  std::int64_t flops = 0;         // of the product with the output weights
  std::int64_t workspace = 0;     // bytes without scratch
  std::int64_t lane_scratch = 0;  // bytes
  std::int64_t answer = 0;        // bytes
};
MergeCost CostOfMerge(const MergeProblem& problem);

// With m the largest log-sum-exp of a row's parts and s the head's sink, part p weighs
//   exp(lse_p - m) / (sum of exp(lse - m) + exp(s - m)),
// in double; the row is the head's gain times the sum of the parts' rows so weighed (Dao et al., arXiv 2205.14135,
// section 3.1; FlashInfer, arXiv 2501.01005, section 2.2). A row that no part sees is zeros. The same bits with any
// number of lanes. Fails with INVALID_ARGUMENT for values that are not finite (-inf is a log-sum-exp), and results
// beyond float32.
class MergeWork final : public PhasedWork {
 public:
  // All outlive it.
  MergeWork(const MergeProblem& problem, MemoryAccount& account, MatmulCache& matmuls);

  // When the work ended well.
  OwnedTensor TakeOutput() { return std::move(output_); }
  OwnedTensor TakeLogSumExp() { return std::move(log_sum_exp_); }  // of the keys alone: [B, H, T]

 private:
  void Build() override;
  void AddProduct();

  const MergeProblem& problem_;
  MemoryAccount& account_;
  MatmulCache& matmuls_;
  FloatBuffer concat_;       // [B, T, H x Dv], where there are output weights
  FloatBuffer own_weights_;  // widened
  OwnedTensor output_, log_sum_exp_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_MERGE_H_
