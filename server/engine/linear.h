// Y = X W + b in blocks of fixed height, so that a row's bits depend on nothing but the row and the layer.
#ifndef HEADLIGHT_SERVER_ENGINE_LINEAR_H_
#define HEADLIGHT_SERVER_ENGINE_LINEAR_H_

#include <cstdint>
#include <vector>

#include "server/base/tensor.h"
#include "server/engine/phased_work.h"
#include "server/kernels/matmul.h"
#include "server/plan/planner.h"

namespace headlight {

// One product. Rows of different batches never share a block.
struct LinearMap {
  std::int64_t batches = 0;
  std::int64_t tokens = 0;
  std::int64_t fan_in = 0;
  std::int64_t fan_out = 0;
  const float* input = nullptr;        // [batches x tokens, fan_in]
  const float* weights = nullptr;      // [fan_in, fan_out]
  TensorView bias;                     // [fan_out] of any kind, or empty
  TensorKind kind = TensorKind::kF32;  // of the result
  std::byte* output = nullptr;         // [batches x tokens, fan_out]
};

// Several products in one phase, which fails with INVALID_ARGUMENT where a result is beyond float32; all may run side
// by side. Scratch: ProjectionBlocks.rows x (fan-in + columns) floats.
class Linear final : public Phase {
 public:
  // With `allow_non_finite` results are whatever they are.
  Linear(MatmulCache& matmuls, ProjectionBlocks blocks, bool allow_non_finite)
      : Phase(Stage::kProject), matmuls_(matmuls), blocks_(blocks), allow_non_finite_(allow_non_finite) {}

  void Add(const LinearMap& map) { maps_.push_back(map); }

  std::int64_t Begin() override;
  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override;

 private:
  std::int64_t TasksOf(const LinearMap& map) const;
  absl::Status RunBlock(const LinearMap& map, std::int64_t task, float* scratch);

  MatmulCache& matmuls_;
  ProjectionBlocks blocks_;
  bool allow_non_finite_;
  std::vector<LinearMap> maps_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_LINEAR_H_
