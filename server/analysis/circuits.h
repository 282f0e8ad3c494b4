// The mathematics of a head's circuits, in double and through factors: a circuit is M = A B^T with A [n, r] and B [m,
// r], r the head size, and nothing here is ever n x m. With A = Qa Ra and B = Qb Rb (Householder), M has the singular
// values of the small Ra Rb^T, and its directions are Qa and Qb times those of it.
//
// What can take long goes in steps of about a million operations: Step() or ...Step(step) does one and tells whether
// more are left. Not thread-safe; no I/O.
#ifndef HEADLIGHT_SERVER_ANALYSIS_CIRCUITS_H_
#define HEADLIGHT_SERVER_ANALYSIS_CIRCUITS_H_

#include <Eigen/Core>
#include <algorithm>
#include <complex>
#include <cstdint>
#include <vector>

#include "server/base/tensor.h"

namespace headlight {

// A part of a layer's matrix, or its transpose, where it lies. Borrowed.
using WeightsView = Eigen::Map<const Eigen::MatrixXf, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

// Columns first .. first + count - 1 of a row-major matrix, or its rows, transposed: [columns, count].
// REQUIRES: `matrix` is of float32 and rank 2.
WeightsView ColumnsOf(const TensorView& matrix, std::int64_t first, std::int64_t count);
WeightsView RowsTransposed(const TensorView& matrix, std::int64_t first, std::int64_t count);

// Operations of a step.
inline constexpr std::int64_t kCircuitStep = std::int64_t{1} << 20;

// A Householder QR of [n, r] by columns: each takes the reflections before it, then makes its own.
class SteppedQr {
 public:
  explicit SteppedQr(const WeightsView& matrix);

  bool Step();
  // When it is done: [min(n, r), r], upper triangular.
  Eigen::MatrixXd R() const;
  // In steps of its own, when it is done: a column of Q [top; 0], where `column` has n numbers. `next` counts the
  // reflections that are left; begin with reflections().
  bool ApplyStep(Eigen::Ref<Eigen::VectorXd> column, std::int64_t* next) const;
  std::int64_t reflections() const { return scales_.size(); }
  std::int64_t rows() const { return reflected_.rows(); }

 private:
  void Load();
  void Reflect(std::int64_t i, double* column) const;
  // Reflections that make a step.
  std::int64_t Batch() const { return std::max<std::int64_t>(1, kCircuitStep / (4 * reflected_.rows())); }

  WeightsView matrix_;
  Eigen::MatrixXd reflected_;  // R, and below it the reflections' vectors but for their leading 1
  Eigen::VectorXd scales_;     // of reflections
  std::int64_t loaded_rows_ = 0, loaded_columns_ = 0, column_ = 0, reflection_ = 0;
};

// c = start + a b, tile by tile; `start` is a row that is added to each of c's, or null. Steps come in order from 0; c
// is of the product's size and need not be initialised. False: that was the last.
template <typename A, typename B>
bool ProductStep(const A& a, const B& b, const Eigen::RowVectorXd* start, std::int64_t step, Eigen::MatrixXd* c) {
  constexpr std::int64_t kTile = 64;
  constexpr std::int64_t kDepth = 128;
  const std::int64_t depths = std::max<std::int64_t>(CeilDiv(a.cols(), kDepth), 1);
  const std::int64_t across = CeilDiv(b.cols(), kTile);
  const std::int64_t tile = step / depths;
  const std::int64_t i = tile / across * kTile;
  const std::int64_t j = tile % across * kTile;
  const std::int64_t k = step % depths * kDepth;
  const std::int64_t rows = std::min(kTile, a.rows() - i);
  const std::int64_t columns = std::min(kTile, b.cols() - j);
  const std::int64_t depth = std::min(kDepth, a.cols() - k);
  auto target = c->block(i, j, rows, columns);
  if (k == 0) target.setZero();
  if (k == 0 && start != nullptr) target.rowwise() = start->segment(j, columns);
  target.noalias() += a.block(i, k, rows, depth).template cast<double>().eval() *
                      b.block(k, j, depth, columns).template cast<double>().eval();
  return step + 1 < depths * across * CeilDiv(a.rows(), kTile);
}

// Singular values of a core, descending, and its first `directions` singular vectors by column. One call of Eigen's
// BDCSVD, which knows no steps: some milliseconds for D = 64, about a second for D = 512.
struct CoreSvd {
  Eigen::VectorXd values;
  Eigen::MatrixXd left, right;
};
CoreSvd DecomposeCore(const Eigen::MatrixXd& core, std::int64_t directions);

// By falling size, and of equal size by falling real, then imaginary part: the eigenvalues of W_v W_o are those of
// W_o W_v, which is small, and zeros. One call of Eigen's EigenSolver, likewise. Empty where it does not converge.
std::vector<std::complex<double>> EigenvaluesOf(const Eigen::MatrixXd& core);

// Their sum over the sum of their sizes, -1..1; 0 where all are 0 (Elhage et al. 2021).
double CopyingScore(const std::vector<std::complex<double>>& eigenvalues);

// ||first second|| / (||first|| ||second||); 0 where one of them is 0.
double CompositionScore(double product, double first, double second);

// Sizes of first = A B^T with A [reads, first_rank] and B [width, first_rank], and of second = C D^T with C
// [width, second_rank] and D [writes, second_rank].
struct CompositionShape {
  std::int64_t reads = 0;
  std::int64_t first_rank = 0;
  std::int64_t width = 0;
  std::int64_t second_rank = 0;
  std::int64_t writes = 0;          // 0: D is the identity, as where a layer has no output matrix
  bool first_writes_slice = false;  // B is a slice of the identity, likewise
};

// The composition score of the draw-th pair of such circuits whose factors have independent normal elements, always the
// same. Drawn through their triangular factors, whose law is known (Bartlett 1933), and so without a number of theirs:
// exact up to rank 64. Higher ranks are drawn as 64; the mean square is 1 / width whatever the ranks are, and the mean
// is within 1e-4 of its root there.
double RandomComposition(CompositionShape shape, std::uint64_t draw);
// Operations of one, about.
std::int64_t RandomCompositionFlops(const CompositionShape& shape);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_CIRCUITS_H_
