#include "server/analysis/head_circuits.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/engine/overflow.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

using Eigen::MatrixXd;

// Numbers that are narrowed in a step.
constexpr std::int64_t kPiece = std::int64_t{1} << 17;

WeightsView RowsOf(const TensorView& rows) {
  return {reinterpret_cast<const float*>(rows.data), rows.shape[0], rows.shape[1],
          Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(1, rows.shape[1])};
}

// A head's part of a bias, or zeros.
Eigen::RowVectorXd BiasOf(const TensorView& bias, std::int64_t head, std::int64_t size) {
  if (bias.empty()) return Eigen::RowVectorXd::Zero(size);
  const auto* data = reinterpret_cast<const float*>(bias.data) + head * size;
  return Eigen::Map<const Eigen::RowVectorXf>(data, size).cast<double>();
}

}  // namespace

WeightsView QueryOf(const CircuitLayer& layer, std::int64_t head) {
  return ColumnsOf(layer.matrices.query, head * layer.head_size(), layer.head_size());
}

WeightsView KeyOf(const CircuitLayer& layer, std::int64_t head) {
  return ColumnsOf(layer.matrices.key, layer.KeyValueHead(head) * layer.head_size(), layer.head_size());
}

WeightsView ValueOf(const CircuitLayer& layer, std::int64_t head) {
  const std::int64_t size = layer.value_head_size();
  return ColumnsOf(layer.matrices.value, layer.KeyValueHead(head) * size, size);
}

WeightsView OutputOf(const CircuitLayer& layer, std::int64_t head) {
  return RowsTransposed(layer.matrices.output, head * layer.value_head_size(), layer.value_head_size());
}

CircuitSteps::CircuitSteps(const WeightsView& left, const std::optional<WeightsView>& right, double scale,
                           bool decomposes, std::int64_t directions)
    : left_(left), scale_(scale), decomposes_(decomposes), directions_(directions) {
  if (right.has_value()) right_.emplace(*right);
}

bool CircuitSteps::Step() {
  bool more = false;
  switch (stage_) {
    case Stage::kLeft: more = left_.Step(); break;
    case Stage::kRight: more = right_.has_value() && right_->Step(); break;
    case Stage::kCore: more = CoreStep(); break;
    case Stage::kDecompose: Decompose(); break;
    case Stage::kLeftDirections: more = DirectionStep(&left_, svd_.left, &result_.left); break;
    case Stage::kRightDirections:
      more = DirectionStep(right_.has_value() ? &*right_ : nullptr, svd_.right, &result_.right);
      break;
    case Stage::kDone: return false;
  }
  if (more) return true;
  stage_ = static_cast<Stage>(static_cast<int>(stage_) + 1);
  step_ = direction_ = 0;
  if (stage_ == Stage::kDecompose && !decomposes_) stage_ = Stage::kDone;
  if (stage_ == Stage::kLeftDirections && directions_ == 0) stage_ = Stage::kDone;
  return stage_ != Stage::kDone;
}

bool CircuitSteps::CoreStep() {
  if (step_ == 0) {
    left_triangle_ = left_.R();
    right_triangle_ =
        right_.has_value() ? right_->R() : MatrixXd::Identity(left_triangle_.cols(), left_triangle_.cols());
    core_.resize(left_triangle_.rows(), right_triangle_.rows());
  }
  if (ProductStep(left_triangle_, right_triangle_.transpose(), nullptr, step_++, &core_)) return true;
  core_ *= scale_;
  result_.frobenius_norm = core_.norm();
  return false;
}

void CircuitSteps::Decompose() {
  directions_ = std::min<std::int64_t>(directions_, std::min(core_.rows(), core_.cols()));
  svd_ = DecomposeCore(core_, directions_);
  result_.singular_values.assign(svd_.values.begin(), svd_.values.end());
}

bool CircuitSteps::DirectionStep(const SteppedQr* qr, const MatrixXd& top, OwnedTensor* tensor) {
  const std::int64_t rows = qr == nullptr ? top.rows() : qr->rows();
  if (tensor->empty()) *tensor = MakeTensor(TensorKind::kF32, {directions_, rows});
  if (column_.size() == 0) {
    column_ = Eigen::VectorXd::Zero(rows);
    column_.head(top.rows()) = top.col(direction_);
    reflections_left_ = qr == nullptr ? 0 : qr->reflections();
  }
  if (qr != nullptr && reflections_left_ > 0 && qr->ApplyStep(column_, &reflections_left_)) return true;
  Eigen::Map<Eigen::VectorXf>(tensor->floats() + direction_ * rows, rows) = column_.cast<float>();
  column_.resize(0);
  return ++direction_ < directions_;
}

CircuitSteps QueryKeySteps(const CircuitLayer& layer, std::int64_t head, bool decomposes, std::int64_t directions) {
  const double scale = 1 / std::sqrt(static_cast<double>(layer.head_size()));
  return {QueryOf(layer, head), KeyOf(layer, head), scale, decomposes, directions};
}

CircuitSteps OutputValueSteps(const CircuitLayer& layer, std::int64_t head, bool decomposes, std::int64_t directions) {
  std::optional<WeightsView> output;
  if (layer.has_output()) output.emplace(OutputOf(layer, head));
  return {ValueOf(layer, head), output, 1, decomposes, directions};
}

HeadSteps::HeadSteps(const CircuitsProblem& problem, HeadCircuitsResult* result)
    : problem_(problem), layer_(problem.layer), result_(*result) {}

bool HeadSteps::has_eigenvalues() const {
  return layer_.has_output() && layer_.context_width() == layer_.output_width();
}

absl::StatusOr<bool> HeadSteps::Step() {
  if (stage_ == Stage::kDone) return false;
  absl::StatusOr<bool> more = StageStep();
  if (!more.ok() || *more) return more;
  stage_ = static_cast<Stage>(static_cast<int>(stage_) + 1);
  step_ = 0;
  if (stage_ == Stage::kProduct && !has_eigenvalues()) stage_ = Stage::kQueries;
  if (stage_ == Stage::kQueries && problem_.queries.empty()) stage_ = Stage::kDone;
  return stage_ != Stage::kDone;
}

absl::StatusOr<bool> HeadSteps::StageStep() {
  switch (stage_) {
    case Stage::kQueryKey: return QueryKeyStep();
    case Stage::kOutputValue: return OutputValueStep();
    case Stage::kProduct: return ProductOfWeightsStep();
    case Stage::kEigenvalues:
      if (absl::Status found = FindEigenvalues(); !found.ok()) return found;
      return false;
    case Stage::kQueries: return QueriesStep();
    case Stage::kKeys: return KeysStep();
    case Stage::kScores: return ScoresStep();
    case Stage::kWrite: return WriteStep();
    case Stage::kDone: return false;
  }
  return false;
}

bool HeadSteps::QueryKeyStep() {
  if (!circuit_.has_value()) circuit_.emplace(QueryKeySteps(layer_, result_.head, true, problem_.directions));
  if (circuit_->Step()) return true;
  result_.query_key = std::move(circuit_->result());
  circuit_.reset();
  return false;
}

bool HeadSteps::OutputValueStep() {
  if (!circuit_.has_value()) circuit_.emplace(OutputValueSteps(layer_, result_.head, true, problem_.directions));
  if (circuit_->Step()) return true;
  result_.output_value = std::move(circuit_->result());
  value_triangle_ = std::move(circuit_->left_triangle());
  circuit_.reset();
  return false;
}

bool HeadSteps::ProductOfWeightsStep() {
  const WeightsView value = ValueOf(layer_, result_.head);
  const WeightsView output = OutputOf(layer_, result_.head);
  // Both have the same eigenvalues other than 0; the smaller has all that can be.
  const bool narrow = value.rows() < value.cols();
  if (step_ == 0) core_.resize(narrow ? value.rows() : value.cols(), narrow ? value.rows() : value.cols());
  return narrow ? ProductStep(value, output.transpose(), nullptr, step_++, &core_)
                : ProductStep(output.transpose(), value, nullptr, step_++, &core_);
}

absl::Status HeadSteps::FindEigenvalues() {
  result_.eigenvalues = EigenvaluesOf(core_);
  if (result_.eigenvalues.empty()) {
    return absl::InternalError(absl::StrCat("the eigenvalues of head ", result_.head, " do not converge"));
  }
  result_.copying_score = CopyingScore(result_.eigenvalues);
  core_.resize(0, 0);
  return absl::OkStatus();
}

bool HeadSteps::QueriesStep() {
  const std::int64_t size = layer_.head_size();
  if (step_ == 0) queries_.resize(problem_.queries.shape[0], size);
  const Eigen::RowVectorXd bias = BiasOf(layer_.matrices.query_bias, result_.head, size);
  return ProductStep(RowsOf(problem_.queries), QueryOf(layer_, result_.head), &bias, step_++, &queries_);
}

bool HeadSteps::KeysStep() {
  const std::int64_t size = layer_.head_size();
  if (step_ == 0) keys_.resize(problem_.keys.shape[0], size);
  const Eigen::RowVectorXd bias = BiasOf(layer_.matrices.key_bias, layer_.KeyValueHead(result_.head), size);
  return ProductStep(RowsOf(problem_.keys), KeyOf(layer_, result_.head), &bias, step_++, &keys_);
}

bool HeadSteps::ScoresStep() {
  if (step_ == 0) scores_.resize(queries_.rows(), keys_.rows());
  return ProductStep(queries_, keys_.transpose(), nullptr, step_++, &scores_);
}

absl::StatusOr<bool> HeadSteps::WriteStep() {
  const std::int64_t rows = scores_.rows();
  const std::int64_t columns = scores_.cols();
  if (step_ == 0) result_.scores = MakeTensor(TensorKind::kF32, {rows, columns});
  const std::int64_t height = std::max<std::int64_t>(kPiece / columns, 1);
  const std::int64_t first = step_++ * height;
  const std::int64_t count = std::min(height, rows - first);
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const double scale = 1 / std::sqrt(static_cast<double>(layer_.head_size()));
  float* written = result_.scores.floats() + first * columns;
  Eigen::Map<RowMajor>(written, count, columns) = (scores_.middleRows(first, count) * scale).cast<float>();
  if (const std::int64_t bad = FirstNonFinite(written, count * columns); bad < count * columns) {
    return Overflow("queries", "a score", {result_.head, first + bad / columns, bad % columns});
  }
  return first + count < rows;
}

}  // namespace headlight
