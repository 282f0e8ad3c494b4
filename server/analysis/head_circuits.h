// One circuit, and one head's circuits, step by step. Private to circuits_work.cc.
#ifndef HEADLIGHT_SERVER_ANALYSIS_HEAD_CIRCUITS_H_
#define HEADLIGHT_SERVER_ANALYSIS_HEAD_CIRCUITS_H_

#include <Eigen/Core>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "server/analysis/circuits.h"
#include "server/analysis/circuits_work.h"

namespace headlight {

// Head h's columns of W_q, W_k and W_v, and its rows of W_o, transposed: [E, D], [Ec, D], [Ec, Dv], [Eo, Dv].
WeightsView QueryOf(const CircuitLayer& layer, std::int64_t head);
WeightsView KeyOf(const CircuitLayer& layer, std::int64_t head);
WeightsView ValueOf(const CircuitLayer& layer, std::int64_t head);
// REQUIRES: layer.has_output().
WeightsView OutputOf(const CircuitLayer& layer, std::int64_t head);

// scale x left right^T. Step until false.
class CircuitSteps {
 public:
  // `right` may be absent: the identity. Without `decomposes` there are triangles and the norm alone.
  CircuitSteps(const WeightsView& left, const std::optional<WeightsView>& right, double scale, bool decomposes,
               std::int64_t directions);

  bool Step();

  CircuitResult& result() { return result_; }
  Eigen::MatrixXd& left_triangle() { return left_triangle_; }
  Eigen::MatrixXd& right_triangle() { return right_triangle_; }

 private:
  enum class Stage : std::uint8_t { kLeft, kRight, kCore, kDecompose, kLeftDirections, kRightDirections, kDone };

  bool CoreStep();
  void Decompose();
  // One step towards the rows of `tensor`, from the core's vectors `top`; `qr` null: the identity.
  bool DirectionStep(const SteppedQr* qr, const Eigen::MatrixXd& top, OwnedTensor* tensor);

  SteppedQr left_;
  std::optional<SteppedQr> right_;
  double scale_;
  bool decomposes_;
  std::int64_t directions_;
  Stage stage_ = Stage::kLeft;
  std::int64_t step_ = 0;
  Eigen::MatrixXd left_triangle_, right_triangle_, core_;
  CoreSvd svd_;
  Eigen::VectorXd column_;      // a direction in the making
  std::int64_t direction_ = 0;  // which
  std::int64_t reflections_left_ = 0;
  CircuitResult result_;
};

CircuitSteps QueryKeySteps(const CircuitLayer& layer, std::int64_t head, bool decomposes, std::int64_t directions);
CircuitSteps OutputValueSteps(const CircuitLayer& layer, std::int64_t head, bool decomposes, std::int64_t directions);

// Everything that is told of one head.
class HeadSteps {
 public:
  // `problem` and `result` outlive it; result->head is set.
  HeadSteps(const CircuitsProblem& problem, HeadCircuitsResult* result);

  // False: done. INTERNAL where eigenvalues do not converge.
  absl::StatusOr<bool> Step();

  // When it is done: R of W_v.
  Eigen::MatrixXd& value_triangle() { return value_triangle_; }

 private:
  enum class Stage : std::uint8_t {
    kQueryKey,
    kOutputValue,
    kProduct,
    kEigenvalues,
    kQueries,
    kKeys,
    kScores,
    kWrite,
    kDone
  };

  absl::StatusOr<bool> StageStep();
  bool QueryKeyStep();
  bool OutputValueStep();
  bool ProductOfWeightsStep();
  absl::Status FindEigenvalues();
  bool QueriesStep();
  bool KeysStep();
  bool ScoresStep();
  absl::StatusOr<bool> WriteStep();

  bool has_eigenvalues() const;

  const CircuitsProblem& problem_;
  const CircuitLayer& layer_;
  HeadCircuitsResult& result_;
  Stage stage_ = Stage::kQueryKey;
  std::int64_t step_ = 0;
  std::optional<CircuitSteps> circuit_;
  Eigen::MatrixXd value_triangle_, core_, queries_, keys_, scores_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_HEAD_CIRCUITS_H_
