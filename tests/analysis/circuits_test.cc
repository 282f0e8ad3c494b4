// Circuits through factors against the matrices themselves, E x E in double.
#include "server/analysis/circuits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>
#include <Eigen/SVD>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "server/analysis/circuits_work.h"
#include "server/kernels/seeded.h"

namespace headlight {
namespace {

using Eigen::MatrixXd;

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

struct Sizes {
  std::int64_t width = 0;          // E
  std::int64_t context_width = 0;  // Ec
  std::int64_t output_width = 0;   // Eo; 0: no output matrix
  std::int64_t query_heads = 1;
  std::int64_t key_value_heads = 1;
  std::int64_t head_size = 1;
  std::int64_t value_head_size = 1;
};

OwnedTensor Random(Shape shape, std::uint64_t seed) {
  OwnedTensor tensor = MakeTensor(TensorKind::kF32, std::move(shape));
  SeededRow({seed, 1.0F}, 0, static_cast<std::int64_t>(tensor.bytes.size() / sizeof(float)), tensor.floats());
  return tensor;
}

MatrixXd Dense(const OwnedTensor& t) {
  const std::int64_t columns = t.shape.back();
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<const RowMajor>(t.floats(), static_cast<std::int64_t>(t.bytes.size() / 4) / columns, columns)
      .cast<double>();
}

// A layer with numbers of its own, and its circuits the long way.
struct TestLayer {
  TestLayer(const Sizes& s, std::uint64_t seed) : sizes(s) {
    query = Random({s.width, s.query_heads * s.head_size}, seed);
    key = Random({s.context_width, s.key_value_heads * s.head_size}, seed + 1);
    value = Random({s.context_width, s.key_value_heads * s.value_head_size}, seed + 2);
    if (s.output_width > 0) output = Random({s.query_heads * s.value_head_size, s.output_width}, seed + 3);
    query_bias = Random({s.query_heads * s.head_size}, seed + 4);
    key_bias = Random({s.key_value_heads * s.head_size}, seed + 5);
  }

  CircuitLayer layer() const {
    CircuitLayer out;
    out.matrices.query = query.view();
    out.matrices.key = key.view();
    out.matrices.value = value.view();
    if (!output.empty()) out.matrices.output = output.view();
    out.matrices.query_bias = query_bias.view();
    out.matrices.key_bias = key_bias.view();
    out.query_heads = sizes.query_heads;
    out.key_value_heads = sizes.key_value_heads;
    return out;
  }

  std::int64_t Shared(std::int64_t head) const { return head / (sizes.query_heads / sizes.key_value_heads); }
  MatrixXd Query(std::int64_t h) const { return Dense(query).middleCols(h * sizes.head_size, sizes.head_size); }
  MatrixXd Key(std::int64_t h) const { return Dense(key).middleCols(Shared(h) * sizes.head_size, sizes.head_size); }
  MatrixXd Value(std::int64_t h) const {
    return Dense(value).middleCols(Shared(h) * sizes.value_head_size, sizes.value_head_size);
  }
  // [Dv, Eo], or the head's place in the concatenation.
  MatrixXd Output(std::int64_t h) const {
    const std::int64_t size = sizes.value_head_size;
    if (!output.empty()) return Dense(output).middleRows(h * size, size);
    MatrixXd slice = MatrixXd::Zero(size, sizes.query_heads * size);
    slice.middleCols(h * size, size).setIdentity();
    return slice;
  }
  MatrixXd QueryKey(std::int64_t h) const {
    return Query(h) * Key(h).transpose() / std::sqrt(static_cast<double>(sizes.head_size));
  }
  MatrixXd OutputValue(std::int64_t h) const { return Value(h) * Output(h); }

  Sizes sizes;
  OwnedTensor query, key, value, output, query_bias, key_bias;
};

// Runs it on `lanes` lanes, turn by turn.
absl::Status Finish(CircuitsWork& work, int lanes) {
  for (;;) {
    const absl::StatusOr<int> begun = work.BeginPhase(lanes);
    if (!begun.ok()) return begun.status();
    if (*begun == 0) return absl::OkStatus();
    for (bool any = true; any;) {
      any = false;
      for (int lane = 0; lane < *begun; ++lane) {
        const absl::StatusOr<bool> more = work.RunUnit(lane);
        if (!more.ok()) return more.status();
        any = any || *more;
      }
    }
  }
}

std::vector<std::int64_t> AllHeads(const TestLayer& layer) {
  std::vector<std::int64_t> heads;
  for (std::int64_t h = 0; h < layer.sizes.query_heads; ++h) heads.push_back(h);
  return heads;
}

// Householder's QR of both factors, their product and its SVD are backward stable: together they move a singular value
// by no more than a small multiple of n r eps ||A|| ||B|| (Higham, Accuracy and Stability of Numerical
// Algorithms, 19.3).
double Bound(const MatrixXd& a, const MatrixXd& b) {
  return 8.0 * static_cast<double>((a.rows() + b.rows()) * a.cols()) * kEpsilon * a.norm() * b.norm();
}

void ExpectCircuit(const CircuitResult& got, const MatrixXd& want, double bound, std::int64_t directions) {
  const Eigen::BDCSVD<MatrixXd> svd(want);
  const auto rank = static_cast<std::int64_t>(got.singular_values.size());
  for (std::int64_t i = 0; i < svd.singularValues().size(); ++i) {
    const double value = i < rank ? got.singular_values[static_cast<std::size_t>(i)] : 0;
    EXPECT_NEAR(value, svd.singularValues()[i], bound) << i;
  }
  EXPECT_NEAR(got.frobenius_norm, want.norm(), bound);
  if (directions == 0) {
    EXPECT_TRUE(got.left.empty());
    return;
  }
  const std::int64_t count = std::min(directions, rank);
  ASSERT_EQ(got.left.shape, (Shape{count, want.rows()}));
  ASSERT_EQ(got.right.shape[0], count);
  const MatrixXd left = Dense(got.left);
  const MatrixXd right = Dense(got.right);
  // A number of a unit vector was rounded to float32: by 2^-25 of a power of two above it, and so the vector by no more
  // than 2^-24.
  constexpr double kRounded = 0x1p-24;
  EXPECT_LE((left * left.transpose() - MatrixXd::Identity(count, count)).norm(),
            3.0 * kRounded * static_cast<double>(count) + bound);
  EXPECT_LE((right * right.transpose() - MatrixXd::Identity(count, count)).norm(),
            3.0 * kRounded * static_cast<double>(count) + bound);
  for (std::int64_t i = 0; i < count; ++i) {
    MatrixXd wide = MatrixXd::Zero(1, want.cols());
    wide.leftCols(right.cols()) = right.row(i);
    const double value = got.singular_values[static_cast<std::size_t>(i)];
    if (right.cols() != want.cols()) continue;  // without an output matrix: columns of the head alone
    EXPECT_LE((wide * want.transpose() - value * left.row(i)).norm(), 2 * kRounded * want.norm() + bound) << i;
    EXPECT_LE((left.row(i) * want - value * wide).norm(), 2 * kRounded * want.norm() + bound) << i;
  }
}

// W_o W_v with an error of E has the eigenvalue l and the vector x: W_v W_o moves W_v x to l W_v x but for W_v E x, and
// ||W_v x|| is at least |l| ||x|| / ||W_o||. So l is an eigenvalue of a matrix as near as this.
void ExpectEigenvalues(const std::vector<std::complex<double>>& got, const MatrixXd& v, const MatrixXd& o) {
  const MatrixXd m = v * o;
  ASSERT_EQ(static_cast<std::int64_t>(got.size()), std::min(v.rows(), v.cols()));
  const double error = 8 * static_cast<double>(v.rows() * v.cols()) * kEpsilon * v.norm() * o.norm();
  std::complex<double> sum = 0;
  for (const std::complex<double>& value : got) {
    sum += value;
    if (&value != &got.front() && m.rows() > 64) continue;  // each is an SVD of all of it
    const Eigen::MatrixXcd shifted =
        m.cast<std::complex<double>>() - value * Eigen::MatrixXcd::Identity(m.rows(), m.rows());
    const double nearest = Eigen::JacobiSVD<Eigen::MatrixXcd>(shifted).singularValues().minCoeff();
    EXPECT_LE(nearest, error * v.norm() * o.norm() / std::abs(value));
  }
  EXPECT_NEAR(sum.real(), m.trace(), error);
  EXPECT_NEAR(sum.imag(), 0, error);
  for (std::size_t i = 1; i < got.size(); ++i) EXPECT_GE(std::abs(got[i - 1]), std::abs(got[i]));
}

struct Case {
  std::string name;
  Sizes sizes;
};

class Circuits : public testing::TestWithParam<Case> {};

TEST_P(Circuits, AreThoseOfTheWholeMatrices) {
  const Sizes& s = GetParam().sizes;
  const TestLayer layer(s, 7);
  for (const std::int64_t directions : {0, 3, 64}) {
    CircuitsProblem problem{layer.layer(), {}, AllHeads(layer), directions, {}, {}};
    MemoryAccount account(nullptr);
    CircuitsWork work(problem, account);
    ASSERT_TRUE(Finish(work, 2).ok());
    ASSERT_EQ(static_cast<std::int64_t>(work.heads().size()), s.query_heads);
    for (const HeadCircuitsResult& head : work.heads()) {
      SCOPED_TRACE(head.head);
      const MatrixXd q = layer.Query(head.head);
      const MatrixXd k = layer.Key(head.head);
      const MatrixXd v = layer.Value(head.head);
      const MatrixXd o = layer.Output(head.head);
      ExpectCircuit(head.query_key, layer.QueryKey(head.head), Bound(q, k), directions);
      ExpectCircuit(head.output_value, layer.OutputValue(head.head), Bound(v, o.transpose()), directions);
      if (s.output_width == s.context_width) {
        ExpectEigenvalues(head.eigenvalues, v, o);
        EXPECT_NEAR(head.copying_score, CopyingScore(head.eigenvalues), 0);
      } else {
        EXPECT_TRUE(head.eigenvalues.empty());
        EXPECT_EQ(head.copying_score, 0);
      }
      EXPECT_TRUE(head.scores.empty());
    }
  }
}

// A score is a sum of float32 products in double, rounded to float32 once.
TEST_P(Circuits, ScoresOfPairsCountBiases) {
  const Sizes& s = GetParam().sizes;
  const TestLayer layer(s, 11);
  const OwnedTensor queries = Random({70, s.width}, 21);
  const OwnedTensor keys = Random({5, s.context_width}, 22);
  CircuitsProblem problem{layer.layer(), {}, {s.query_heads - 1}, 0, queries.view(), keys.view()};
  MemoryAccount account(nullptr);
  CircuitsWork work(problem, account);
  ASSERT_TRUE(Finish(work, 1).ok());
  ASSERT_EQ(work.heads().size(), 1U);
  const std::int64_t h = s.query_heads - 1;
  const MatrixXd q_bias = Dense(layer.query_bias).middleCols(h * s.head_size, s.head_size);
  const MatrixXd k_bias = Dense(layer.key_bias).middleCols(layer.Shared(h) * s.head_size, s.head_size);
  const MatrixXd q = Dense(queries) * layer.Query(h) + q_bias.replicate(70, 1);
  const MatrixXd k = Dense(keys) * layer.Key(h) + k_bias.replicate(5, 1);
  const MatrixXd want = q * k.transpose() / std::sqrt(static_cast<double>(s.head_size));
  ASSERT_EQ(work.heads()[0].scores.shape, (Shape{70, 5}));
  const MatrixXd got = Dense(work.heads()[0].scores);
  for (std::int64_t i = 0; i < want.rows(); ++i) {
    for (std::int64_t j = 0; j < want.cols(); ++j) {
      EXPECT_NEAR(got(i, j), want(i, j), 0x1p-24 * std::fabs(want(i, j)) + 1e-10) << i << " " << j;
    }
  }
}

// A later layer of the same width as what this one writes.
TEST_P(Circuits, CompositionsAreThoseOfTheWholeMatrices) {
  const Sizes& s = GetParam().sizes;
  const TestLayer first(s, 31);
  const std::int64_t width = first.Output(0).cols();
  for (const std::int64_t output : {std::int64_t{0}, width}) {
    const TestLayer later({width, width, output, 4, 2, 6, 3}, 41);
    CircuitsProblem problem{first.layer(), later.layer(), AllHeads(first), 0, {}, {}};
    MemoryAccount account(nullptr);
    CircuitsWork work(problem, account);
    ASSERT_TRUE(Finish(work, 3).ok());
    ASSERT_EQ(work.compositions().size(), static_cast<std::size_t>(s.query_heads * 4));
    for (std::size_t i = 0; i < work.compositions().size(); ++i) {
      const CompositionResult& got = work.compositions()[i];
      ASSERT_EQ(got.head, static_cast<std::int64_t>(i) / 4);
      ASSERT_EQ(got.later_head, static_cast<std::int64_t>(i) % 4);
      const MatrixXd ov = first.OutputValue(got.head);
      const MatrixXd qk = later.QueryKey(got.later_head);
      const MatrixXd later_ov = later.OutputValue(got.later_head);
      // Each of the three norms is right to a small multiple of its sizes times eps.
      constexpr double kBound = 1e-11;
      EXPECT_NEAR(got.query, (ov * qk).norm() / (ov.norm() * qk.norm()), kBound);
      EXPECT_NEAR(got.key, (ov * qk.transpose()).norm() / (ov.norm() * qk.norm()), kBound);
      EXPECT_NEAR(got.value, (ov * later_ov).norm() / (ov.norm() * later_ov.norm()), kBound);
    }
    // The mean square is 1 / width, and a mean is no more than the root of that.
    EXPECT_GT(work.baseline().query, 0.5 / std::sqrt(static_cast<double>(width)));
    EXPECT_LT(work.baseline().query, 1.2 / std::sqrt(static_cast<double>(width)));
    EXPECT_EQ(work.baseline().query, work.baseline().key);
    EXPECT_GT(work.baseline().value, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, Circuits,
    testing::Values(Case{"Square", {24, 24, 24, 3, 3, 8, 8}}, Case{"Grouped", {24, 24, 24, 6, 2, 4, 5}},
                    Case{"Context", {20, 33, 20, 2, 1, 7, 6}}, Case{"ContextIsOutput", {20, 33, 33, 2, 2, 7, 6}},
                    Case{"NoOutput", {18, 18, 0, 3, 1, 5, 4}}, Case{"HeadsWiderThanTheModel", {5, 6, 6, 2, 2, 9, 11}},
                    Case{"ManyTiles", {140, 150, 150, 1, 1, 70, 66}}, Case{"One", {1, 1, 1, 1, 1, 1, 1}}),
    [](const testing::TestParamInfo<Case>& tested) { return tested.param.name; });

// A column twice, and one of zeros: the rest of the singular values are 0 to the bound, not to its root, as they would
// be from Gram matrices.
TEST(CircuitsOf, AHeadOfLowRank) {
  TestLayer layer({40, 40, 40, 1, 1, 6, 6}, 3);
  for (std::int64_t row = 0; row < 40; ++row) {
    float* query = layer.query.floats() + row * 6;
    query[5] = query[0];
    query[4] = 0;
    float* value = layer.value.floats() + row * 6;
    std::fill_n(value, 6, value[0]);
  }
  CircuitsProblem problem{layer.layer(), {}, {0}, 6, {}, {}};
  MemoryAccount account(nullptr);
  CircuitsWork work(problem, account);
  ASSERT_TRUE(Finish(work, 1).ok());
  const HeadCircuitsResult& head = work.heads()[0];
  const double bound = Bound(layer.Query(0), layer.Key(0));
  ExpectCircuit(head.query_key, layer.QueryKey(0), bound, 6);
  EXPECT_GT(head.query_key.singular_values[3], 1e3 * bound);
  EXPECT_LT(head.query_key.singular_values[4], bound);
  EXPECT_LT(head.query_key.singular_values[5], bound);
  EXPECT_LT(head.output_value.singular_values[1], Bound(layer.Value(0), layer.Output(0).transpose()));
}

TEST(CircuitsOf, ALayerOfZeros) {
  TestLayer layer({8, 8, 8, 2, 2, 4, 4}, 3);
  for (OwnedTensor* matrix : {&layer.query, &layer.key, &layer.value, &layer.output}) {
    std::fill(matrix->bytes.begin(), matrix->bytes.end(), '\0');
  }
  CircuitsProblem problem{layer.layer(), layer.layer(), {1}, 2, {}, {}};
  MemoryAccount account(nullptr);
  CircuitsWork work(problem, account);
  ASSERT_TRUE(Finish(work, 2).ok());
  EXPECT_THAT(work.heads()[0].query_key.singular_values, testing::Each(0));
  EXPECT_EQ(work.heads()[0].copying_score, 0);
  ASSERT_EQ(work.compositions().size(), 2U);
  EXPECT_EQ(work.compositions()[1].value, 0);
}

// W_v W_o = +-W_v W_v^T is symmetric with eigenvalues of one sign alone; a turn by 90 degrees has imaginary ones.
TEST(CircuitsOf, HeadsThatCopyTakeAwayAndTurn) {
  for (const float sign : {1.0F, -1.0F, 0.0F}) {
    TestLayer layer({12, 12, 12, 1, 1, 2, 2}, 5);
    for (std::int64_t e = 0; e < 12; ++e) {
      const float* value = layer.value.floats() + e * 2;
      layer.output.floats()[e] = sign == 0 ? -value[1] : sign * value[0];
      layer.output.floats()[12 + e] = sign == 0 ? value[0] : sign * value[1];
    }
    CircuitsProblem problem{layer.layer(), {}, {0}, 0, {}, {}};
    MemoryAccount account(nullptr);
    CircuitsWork work(problem, account);
    ASSERT_TRUE(Finish(work, 1).ok());
    const HeadCircuitsResult& head = work.heads()[0];
    EXPECT_NEAR(head.copying_score, sign, 1e-12);
    if (sign == 0) {
      EXPECT_GT(std::fabs(head.eigenvalues[0].imag()), 0.1);
    }
  }
}

TEST(CircuitsOf, TheSameBitsWithAnyNumberOfLanes) {
  const TestLayer first({30, 30, 30, 4, 2, 6, 6}, 51);
  const TestLayer later({30, 30, 30, 3, 3, 5, 5}, 61);
  CircuitsProblem problem{first.layer(), later.layer(), AllHeads(first), 4, {}, {}};
  MemoryAccount account(nullptr);
  CircuitsWork one(problem, account);
  CircuitsWork four(problem, account);
  ASSERT_TRUE(Finish(one, 1).ok());
  ASSERT_TRUE(Finish(four, 4).ok());
  for (std::size_t h = 0; h < 4; ++h) {
    EXPECT_EQ(one.heads()[h].query_key.singular_values, four.heads()[h].query_key.singular_values);
    EXPECT_EQ(one.heads()[h].output_value.left.bytes, four.heads()[h].output_value.left.bytes);
    EXPECT_EQ(one.heads()[h].eigenvalues, four.heads()[h].eigenvalues);
  }
  for (std::size_t i = 0; i < one.compositions().size(); ++i) {
    EXPECT_EQ(one.compositions()[i].key, four.compositions()[i].key);
  }
  EXPECT_EQ(one.baseline().value, four.baseline().value);
}

TEST(CircuitsOf, NumbersThatAreNoneAreRefused) {
  const TestLayer layer({8, 8, 8, 1, 1, 4, 4}, 3);
  OwnedTensor queries = Random({3, 8}, 1);
  OwnedTensor keys = Random({2, 8}, 2);
  queries.floats()[10] = std::numeric_limits<float>::quiet_NaN();
  keys.floats()[15] = std::numeric_limits<float>::infinity();
  CircuitsProblem problem{layer.layer(), {}, {0}, 0, queries.view(), keys.view()};
  MemoryAccount account(nullptr);
  CircuitsWork work(problem, account);
  const absl::Status status = Finish(work, 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::AllOf(testing::HasSubstr("queries: got nan at [1, 2]"),
                                                            testing::HasSubstr("keys: got inf at [1, 7]")));
}

// Numbers drawn one by one, the whole matrices multiplied.
double RandomTheLongWay(const CompositionShape& s, std::uint64_t seed) {
  std::uint64_t next = 0;
  const auto normals = [&](std::int64_t rows, std::int64_t columns) {
    return MatrixXd(MatrixXd::NullaryExpr(rows, columns, [&](Eigen::Index, Eigen::Index) {
      double sum = -6;  // twelve uniform numbers: nearly normal, of variance 1
      for (int i = 0; i < 12; ++i) sum += static_cast<double>(SplitMix64(seed, next++) >> 11) * 0x1p-53;
      return sum;
    }));
  };
  MatrixXd b = normals(s.width, s.first_rank);
  if (s.first_writes_slice) b = MatrixXd::Identity(s.width, s.first_rank);
  const MatrixXd first = normals(s.reads, s.first_rank) * b.transpose();
  MatrixXd second = normals(s.width, s.second_rank);
  if (s.writes > 0) second = second * normals(s.writes, s.second_rank).transpose();
  return (first * second).norm() / (first.norm() * second.norm());
}

// Of 2,000 draws each the means are within six of their standard errors; numbers are seeded, so this passes always or
// never.
TEST(RandomCompositions, AreThoseOfWholeMatricesInTheMean) {
  constexpr int kDraws = 2000;
  for (const CompositionShape& shape :
       {CompositionShape{12, 3, 12, 3, 12, false}, CompositionShape{9, 4, 16, 2, 7, false},
        CompositionShape{12, 3, 12, 4, 12, true}, CompositionShape{12, 3, 12, 4, 0, false},
        CompositionShape{5, 7, 4, 9, 6, false}, CompositionShape{1, 1, 1, 1, 1, false}}) {
    double sum = 0;
    double long_sum = 0;
    double squares = 0;
    for (int i = 0; i < kDraws; ++i) {
      const auto seed = static_cast<std::uint64_t>(i);
      const double score = RandomComposition(shape, seed);
      sum += score;
      squares += score * score;
      long_sum += RandomTheLongWay(shape, seed + 100000);
    }
    const double mean = sum / kDraws;
    const double variance = std::max(squares / kDraws - mean * mean, 0.0);
    EXPECT_NEAR(mean, long_sum / kDraws, 6 * std::sqrt(2 * variance / kDraws) + 1e-12);
    // Turning the second at random makes the mean square 1 / width, whatever the ranks are.
    const double spread = 6 * 2 * mean * std::sqrt(variance / kDraws) + 6 * variance / std::sqrt(1.0 * kDraws);
    EXPECT_NEAR(squares / kDraws, 1.0 / static_cast<double>(shape.width), spread + 1e-12);
  }
}

TEST(RandomCompositions, OfHighRankAreTheRootOfTheWidth) {
  for (const std::int64_t rank : {64, 512}) {
    double sum = 0;
    for (std::uint64_t draw = 0; draw < 32; ++draw)
      sum += RandomComposition({4096, rank, 4096, rank, 4096, false}, draw);
    EXPECT_NEAR(sum / 32 * 64, 1, 0.01);
  }
}

}  // namespace
}  // namespace headlight
