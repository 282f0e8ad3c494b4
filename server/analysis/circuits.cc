#include "server/analysis/circuits.h"

#include <Eigen/Eigenvalues>
#include <Eigen/Householder>
#include <Eigen/SVD>
#include <cmath>
#include <tuple>

#include "server/kernels/seeded.h"

namespace headlight {
namespace {

using Eigen::MatrixXd;

// Columns that are read together: as many floats as lie in a line of the cache.
constexpr std::int64_t kColumns = 16;
constexpr std::int64_t kLoadRows = 4096;

// Numbers from one stream, the same everywhere.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : seed_(seed) {}

  // Above 0, below 1.
  double Uniform() { return (static_cast<double>(SplitMix64(seed_, next_++) >> 11) + 0.5) * 0x1p-53; }

  // Box and Muller 1958.
  double Normal() {
    const double radius = std::sqrt(-2 * std::log(Uniform()));
    return radius * std::cos(2 * 3.14159265358979323846 * Uniform());
  }

  // The length of a vector of k normal numbers: its square is twice a gamma number of shape k / 2 (Marsaglia and Tsang
  // 2000, for shapes of at least 1).
  double Chi(std::int64_t k) {
    if (k == 1) return std::fabs(Normal());
    const double d = static_cast<double>(k) / 2 - 1.0 / 3;
    const double c = 1 / std::sqrt(9 * d);
    for (;;) {
      const double x = Normal();
      const double v = std::pow(1 + c * x, 3);
      if (v > 0 && std::log(Uniform()) < x * x / 2 + d - d * v + d * std::log(v)) return std::sqrt(2 * d * v);
    }
  }

  MatrixXd Normals(std::int64_t rows, std::int64_t columns) {
    return MatrixXd::NullaryExpr(rows, columns, [this](Eigen::Index, Eigen::Index) { return Normal(); });
  }

  // R of the QR of a [rows, columns] matrix of normal numbers.
  MatrixXd Triangle(std::int64_t rows, std::int64_t columns) {
    MatrixXd r = MatrixXd::Zero(std::min(rows, columns), columns);
    for (std::int64_t i = 0; i < r.rows(); ++i) {
      r(i, i) = Chi(rows - i);
      for (std::int64_t j = i + 1; j < columns; ++j) r(i, j) = Normal();
    }
    return r;
  }

 private:
  std::uint64_t seed_;
  std::uint64_t next_ = 0;
};

constexpr std::int64_t kMostDrawnRank = 64;

}  // namespace

WeightsView ColumnsOf(const TensorView& matrix, std::int64_t first, std::int64_t count) {
  const auto* data = reinterpret_cast<const float*>(matrix.data) + first;
  return {data, matrix.shape[0], count, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(1, matrix.shape[1])};
}

WeightsView RowsTransposed(const TensorView& matrix, std::int64_t first, std::int64_t count) {
  const auto* data = reinterpret_cast<const float*>(matrix.data) + first * matrix.shape[1];
  return {data, matrix.shape[1], count, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(matrix.shape[1], 1)};
}

SteppedQr::SteppedQr(const WeightsView& matrix)
    : matrix_(matrix),
      reflected_(matrix.rows(), matrix.cols()),
      scales_(std::min<std::int64_t>(matrix.rows(), matrix.cols())) {}

void SteppedQr::Load() {
  const std::int64_t columns = std::min<std::int64_t>(kColumns, reflected_.cols() - column_);
  const std::int64_t rows = std::min<std::int64_t>(kLoadRows, reflected_.rows() - loaded_rows_);
  reflected_.block(loaded_rows_, column_, rows, columns) =
      matrix_.block(loaded_rows_, column_, rows, columns).cast<double>();
  loaded_rows_ += rows;
  if (loaded_rows_ < reflected_.rows()) return;
  loaded_rows_ = 0;
  loaded_columns_ += columns;
}

void SteppedQr::Reflect(std::int64_t i, double* column) const {
  const std::int64_t tail = reflected_.rows() - i - 1;
  const auto vector = reflected_.col(i).tail(tail);
  Eigen::Map<Eigen::VectorXd> rest(column + i + 1, tail);
  const double along = scales_[i] * (column[i] + vector.dot(rest));
  column[i] -= along;
  rest -= along * vector;
}

bool SteppedQr::Step() {
  if (column_ == loaded_columns_) {
    Load();
    return true;
  }
  const std::int64_t before = std::min(column_, reflections());
  const std::int64_t end = std::min(reflection_ + Batch(), before);
  for (; reflection_ < end; ++reflection_) Reflect(reflection_, reflected_.col(column_).data());
  if (reflection_ < before) return true;
  if (column_ < reflections()) {
    auto tail = reflected_.col(column_).tail(reflected_.rows() - column_);
    double scale = 0;
    double length = 0;
    tail.makeHouseholderInPlace(scale, length);
    tail[0] = length;
    scales_[column_] = scale;
  }
  reflection_ = 0;
  return ++column_ < reflected_.cols();
}

MatrixXd SteppedQr::R() const { return reflected_.topRows(reflections()).triangularView<Eigen::Upper>(); }

bool SteppedQr::ApplyStep(Eigen::Ref<Eigen::VectorXd> column, std::int64_t* next) const {
  const std::int64_t end = std::max<std::int64_t>(*next - Batch(), 0);
  while (*next > end) Reflect(--*next, column.data());
  return *next > 0;
}

CoreSvd DecomposeCore(const MatrixXd& core, std::int64_t directions) {
  const std::int64_t count = std::min<std::int64_t>(directions, std::min(core.rows(), core.cols()));
  const Eigen::BDCSVD<MatrixXd> svd(core, count == 0 ? 0 : Eigen::ComputeThinU | Eigen::ComputeThinV);
  CoreSvd out{svd.singularValues(), {}, {}};
  if (count == 0) return out;
  out.left = svd.matrixU().leftCols(count);
  out.right = svd.matrixV().leftCols(count);
  return out;
}

std::vector<std::complex<double>> EigenvaluesOf(const MatrixXd& core) {
  const Eigen::EigenSolver<MatrixXd> solver(core, /*computeEigenvectors=*/false);
  if (solver.info() != Eigen::Success) return {};
  const auto& values = solver.eigenvalues();
  std::vector<std::complex<double>> sorted(values.begin(), values.end());
  // Pairs of conjugates have the same size to the bit.
  std::sort(sorted.begin(), sorted.end(), [](const std::complex<double>& a, const std::complex<double>& b) {
    return std::make_tuple(std::abs(a), a.real(), a.imag()) > std::make_tuple(std::abs(b), b.real(), b.imag());
  });
  return sorted;
}

double CopyingScore(const std::vector<std::complex<double>>& eigenvalues) {
  double sum = 0;
  double sizes = 0;
  for (const std::complex<double>& value : eigenvalues) {
    sum += value.real();
    sizes += std::abs(value);
  }
  return sizes == 0 ? 0 : sum / sizes;
}

double CompositionScore(double product, double first, double second) {
  return first == 0 || second == 0 ? 0 : product / first / second;
}

double RandomComposition(CompositionShape shape, std::uint64_t draw) {
  const std::int64_t first_rank = std::min(shape.first_rank, kMostDrawnRank);
  const std::int64_t second_rank = std::min(shape.second_rank, kMostDrawnRank);
  Draws draws(draw);
  const MatrixXd reads = draws.Triangle(shape.reads, first_rank);
  const MatrixXd b =
      shape.first_writes_slice ? MatrixXd::Identity(first_rank, first_rank) : draws.Triangle(shape.width, first_rank);
  const MatrixXd first = reads * b.transpose();
  // C in a basis that begins with B's columns: what of it they span, and the triangle of what is left.
  const MatrixXd met = draws.Normals(b.rows(), second_rank);
  const MatrixXd rest = draws.Triangle(shape.width - b.rows(), second_rank);
  const MatrixXd writes =
      shape.writes == 0 ? MatrixXd::Identity(second_rank, second_rank) : draws.Triangle(shape.writes, second_rank);
  const double product = (first * met * writes.transpose()).norm();
  const double second = std::hypot((met * writes.transpose()).norm(), (rest * writes.transpose()).norm());
  return CompositionScore(product, first.norm(), second);
}

std::int64_t RandomCompositionFlops(const CompositionShape& shape) {
  const std::int64_t first = std::min(shape.first_rank, kMostDrawnRank);
  const std::int64_t second = std::min(shape.second_rank, kMostDrawnRank);
  // Five products, and some hundred operations a number.
  return 2 * (first * first * first + first * first * second + 3 * first * second * second) +
         100 * (first * first + first * second + second * second);
}

}  // namespace headlight
