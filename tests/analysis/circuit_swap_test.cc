// A swap against its definition in double, and its map against that of an attention of the unchanged layer.
#include "server/analysis/circuit_swap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "server/analysis/circuits_work.h"
#include "server/base/limits.h"
#include "server/engine/sequence.h"
#include "server/kernels/seeded.h"

namespace headlight {
namespace {

using Eigen::MatrixXd;

OwnedTensor Random(Shape shape, std::uint64_t seed) {
  OwnedTensor tensor = MakeTensor(TensorKind::kF32, std::move(shape));
  SeededRow({seed, 0.5F}, 0, static_cast<std::int64_t>(tensor.bytes.size() / sizeof(float)), tensor.floats());
  return tensor;
}

MatrixXd Dense(const TensorView& t) {
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const std::int64_t columns = t.shape.back();
  return Eigen::Map<const RowMajor>(reinterpret_cast<const float*>(t.data), *ElementCount(t.shape) / columns, columns)
      .cast<double>();
}
MatrixXd Dense(const OwnedTensor& t) { return Dense(t.view()); }

std::optional<TensorForm> FormOf(const OwnedTensor& t) {
  return TensorForm{t.kind, t.shape, static_cast<std::int64_t>(t.bytes.size())};
}

absl::Status Finish(std::vector<PhasedWork*> order) {
  Sequence work(std::move(order));
  for (;;) {
    const absl::StatusOr<int> begun = work.BeginPhase(1);
    if (!begun.ok() || *begun == 0) return begun.status();
    for (bool more = true; more;) {
      const absl::StatusOr<bool> ran = work.RunUnit(0);
      if (!ran.ok()) return ran.status();
      more = *ran;
    }
  }
}

struct Case {
  std::string name;
  std::int64_t query_heads = 1;
  std::int64_t key_value_heads = 1;
  bool has_output = true;
  bool rotary = false;
  Algorithm algorithm = Algorithm::kFlash;
  SwapHeads heads;
};

constexpr std::int64_t kTokens = 70;
constexpr std::int64_t kWidth = 20;
constexpr std::int64_t kSize = 8;
constexpr std::int64_t kValueSize = 6;
constexpr std::int64_t kOutputWidth = 11;

class CircuitSwaps : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& c = GetParam();
    query_ = Random({kWidth, c.query_heads * kSize}, 1);
    key_ = Random({kWidth, c.key_value_heads * kSize}, 2);
    value_ = Random({kWidth, c.key_value_heads * kValueSize}, 3);
    value_bias_ = Random({c.key_value_heads * kValueSize}, 4);
    output_ = Random({c.query_heads * kValueSize, kOutputWidth}, 5);
    output_bias_ = Random({kOutputWidth}, 6);
    embeddings_ = Random({kTokens, kWidth}, 7);
  }

  ProblemSpec Spec() const {
    const Case& c = GetParam();
    SelfAttentionForm self;
    self.embeddings = FormOf(embeddings_);
    self.layer.emplace();
    self.layer->query = FormOf(query_);
    self.layer->key = FormOf(key_);
    self.layer->value = FormOf(value_);
    self.layer->value_bias = FormOf(value_bias_);
    if (c.has_output) {
      self.layer->output = FormOf(output_);
      self.layer->output_bias = FormOf(output_bias_);
    }
    ProblemRequest request;
    request.input = std::move(self);
    request.query_heads = c.query_heads;
    request.key_value_heads = c.key_value_heads;
    request.algorithm = c.algorithm;
    if (c.rotary) {
      request.position.kind = PositionKind::kRotary;
      request.position.layout = ChannelLayout::kHalves;
      request.mask.causal = CausalForm{CausalAlignment::kTopLeft, {}};
    }
    return *CheckProblem(request, Limits());
  }

  AttentionData Data() const {
    AttentionData data;
    data.embeddings = embeddings_.view();
    data.layer.query = query_.view();
    data.layer.key = key_.view();
    data.layer.value = value_.view();
    data.layer.value_bias = value_bias_.view();
    if (GetParam().has_output) {
      data.layer.output = output_.view();
      data.layer.output_bias = output_bias_.view();
    }
    return data;
  }

  // [T, Dv] of a head's values, and what its output rows make of them, in double.
  MatrixXd Carried(const MatrixXd& weights, std::int64_t head) const {
    const Case& c = GetParam();
    const std::int64_t shared = head / (c.query_heads / c.key_value_heads);
    const MatrixXd values = (Dense(embeddings_) * Dense(value_) + Dense(value_bias_).replicate(kTokens, 1))
                                .middleCols(shared * kValueSize, kValueSize);
    if (c.has_output) return weights * values * Dense(output_).middleRows(head * kValueSize, kValueSize);
    MatrixXd placed = MatrixXd::Zero(kTokens, c.query_heads * kValueSize);
    placed.middleCols(head * kValueSize, kValueSize) = weights * values;
    return placed;
  }

  OwnedTensor query_, key_, value_, value_bias_, output_, output_bias_, embeddings_;
  MatmulCache matmuls_;
};

TEST_P(CircuitSwaps, LookAsTheAimAndCarryTheCargo) {
  const Case& c = GetParam();
  const ProblemSpec spec = Spec();
  // The unchanged layer, which shows the maps of all heads.
  ProblemSpec plain_spec = spec;
  MapSpec& all = plain_spec.outputs.maps.emplace_back();
  for (std::int64_t h = 0; h < c.query_heads; ++h) all.heads.push_back(h);
  all.batches = {0};
  all.rows = {{0, kTokens}};
  all.keys = {0, kTokens};
  const auto plain_plan = MakePlan(plain_spec, Limits(), {});
  ASSERT_TRUE(plain_plan.ok());
  MemoryAccount account(nullptr);
  const AttentionData data = Data();
  std::vector<std::unique_ptr<MapSink>> sinks = MakeMapSinks(plain_plan->spec);
  AttentionWork plain(*plain_plan, data, account, matmuls_, {sinks[0].get()}, absl::InfinitePast());
  ASSERT_TRUE(Finish({&plain}).ok());
  const std::vector<MapResult> maps = sinks[0]->TakeResults();

  const auto rest = MakePlan(WithoutAim(spec, c.heads), Limits(), {});
  const auto alone = MakePlan(AimAlone(spec, c.heads), Limits(), {});
  ASSERT_TRUE(rest.ok() && alone.ok());
  CircuitSwap swap(*rest, *alone, c.heads, data, account, matmuls_);
  ASSERT_TRUE(Finish(swap.order()).ok());

  const OwnedTensor& aim_map = maps[static_cast<std::size_t>(c.heads.aim)].weights;
  EXPECT_EQ(swap.map().shape, (Shape{kTokens, kTokens}));
  EXPECT_EQ(swap.map().bytes, aim_map.bytes);
  const MatrixXd aim_weights = Dense(aim_map);
  const MatrixXd contribution = Carried(aim_weights, c.heads.cargo);
  // Weights that add up to 1, values below 20 x 0.25 + 0.5, outputs below 6 x 5.5 x 0.5; sums of at most 70 numbers:
  // a rounding of 2^-24 each, and the exponential's few.
  constexpr double kBound = 100 * 0x1p-24 * 16.5;
  EXPECT_LE((Dense(swap.contribution()) - contribution).cwiseAbs().maxCoeff(), kBound);
  MatrixXd output = contribution;
  for (std::int64_t h = 0; h < c.query_heads; ++h) {
    if (h != c.heads.aim) output += Carried(Dense(maps[static_cast<std::size_t>(h)].weights), h);
  }
  if (c.has_output) output += Dense(output_bias_).replicate(kTokens, 1);
  EXPECT_LE((Dense(swap.output()) - output).cwiseAbs().maxCoeff(), kBound * static_cast<double>(c.query_heads));
  // And it is another output than the layer's own.
  const bool same = c.heads.aim == c.heads.cargo;
  const double moved = (Dense(swap.output()) - Dense(plain.output())).cwiseAbs().maxCoeff();
  if (same) {
    EXPECT_LE(moved, 2 * kBound * static_cast<double>(c.query_heads));
  } else {
    EXPECT_GT(moved, 0.1);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, CircuitSwaps,
                         testing::Values(Case{"Flash", 4, 4, true, false, Algorithm::kFlash, {1, 3}},
                                         Case{"Naive", 4, 4, true, false, Algorithm::kNaive, {3, 0}},
                                         Case{"FlashRotary", 4, 4, true, true, Algorithm::kFlash, {2, 1}},
                                         Case{"NaiveRotary", 4, 4, true, true, Algorithm::kNaive, {2, 1}},
                                         Case{"Grouped", 6, 2, true, true, Algorithm::kFlash, {1, 4}},
                                         Case{"GroupedNaive", 6, 2, true, false, Algorithm::kNaive, {5, 0}},
                                         Case{"OfOneGroup", 6, 2, true, false, Algorithm::kFlash, {0, 2}},
                                         Case{"WithItself", 4, 2, true, false, Algorithm::kFlash, {3, 3}},
                                         Case{"NoOutput", 4, 2, false, false, Algorithm::kFlash, {0, 3}}),
                         [](const testing::TestParamInfo<Case>& tested) { return tested.param.name; });

}  // namespace
}  // namespace headlight
