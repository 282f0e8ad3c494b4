#include "server/analysis/circuits_work.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/analysis/head_circuits.h"
#include "server/base/errors.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

using Eigen::MatrixXd;

std::int64_t Cubed(std::int64_t x) { return x * x * x; }

// Of A [n, r], B [m, r] to singular values and, with them, `directions`.
std::int64_t CircuitFlops(std::int64_t n, std::int64_t m, std::int64_t r, bool decomposes, std::int64_t directions) {
  std::int64_t flops = 2 * (n + m) * r * r + 2 * Cubed(r);
  if (decomposes) flops += (directions > 0 ? 22 : 4) * Cubed(r) + 4 * (n + m) * r * directions;
  return flops;
}

std::int64_t HeadFlops(const CircuitLayer& layer, bool decomposes, std::int64_t directions) {
  const std::int64_t d = layer.head_size();
  const std::int64_t dv = layer.value_head_size();
  const std::int64_t ec = layer.context_width();
  std::int64_t flops = CircuitFlops(layer.width(), ec, d, decomposes, directions) +
                       CircuitFlops(ec, layer.has_output() ? layer.output_width() : 0, dv, decomposes, directions);
  if (decomposes && layer.has_output()) flops += 2 * ec * dv * dv + 10 * Cubed(dv);
  return flops;
}

// Of one circuit's parts while it is made: its factors, and what its decomposition works with.
std::int64_t LaneBytes(const CircuitLayer& layer) {
  const std::int64_t d = layer.head_size();
  const std::int64_t dv = layer.value_head_size();
  const std::int64_t factors =
      std::max((layer.width() + layer.context_width()) * d, (layer.context_width() + layer.output_width()) * dv);
  return static_cast<std::int64_t>(sizeof(double)) * (factors + 20 * std::max(d * d, dv * dv));
}

std::int64_t CircuitAnswerBytes(std::int64_t n, std::int64_t m, std::int64_t r, std::int64_t directions) {
  return 64 + 8 * r + 4 * std::min(directions, r) * (n + m);
}

// How the later layer is fed: through queries and keys alike, and through values.
std::array<CompositionShape, 2> BaselineShapes(const CircuitsProblem& problem) {
  const CircuitLayer& layer = problem.layer;
  const CircuitLayer& later = *problem.later;
  const CompositionShape scores{layer.context_width(), layer.value_head_size(), layer.output_width(),
                                later.head_size(),     later.width(),           !layer.has_output()};
  CompositionShape values = scores;
  values.second_rank = later.value_head_size();
  values.writes = later.has_output() ? later.output_width() : 0;
  return {scores, values};
}

}  // namespace

CircuitsCost CostOf(const CircuitsProblem& problem) {
  const CircuitLayer& layer = problem.layer;
  const auto heads = static_cast<std::int64_t>(problem.heads.size());
  const std::int64_t d = layer.head_size();
  const std::int64_t dv = layer.value_head_size();
  const std::int64_t n = problem.queries.empty() ? 0 : problem.queries.shape[0];
  const std::int64_t m = problem.keys.empty() ? 0 : problem.keys.shape[0];
  constexpr auto kDouble = static_cast<std::int64_t>(sizeof(double));
  CircuitsCost cost;
  cost.flops = heads * (HeadFlops(layer, true, problem.directions) +
                        2 * d * (n * layer.width() + m * layer.context_width() + n * m));
  cost.bytes_per_lane = LaneBytes(layer) + kDouble * ((n + m) * d + n * m);
  cost.response_bytes =
      heads * (CircuitAnswerBytes(layer.width(), layer.context_width(), d, problem.directions) +
               CircuitAnswerBytes(layer.context_width(), layer.output_width(), dv, problem.directions) + 16 * dv +
               4 * n * m + 128);
  if (!problem.later.has_value()) return cost;
  const CircuitLayer& later = *problem.later;
  const std::int64_t ld = later.head_size();
  const std::int64_t ldv = later.value_head_size();
  const std::int64_t pairs = heads * later.query_heads;
  const std::int64_t widths = 2 * ld + ldv;
  cost.flops += later.query_heads * HeadFlops(later, false, 0);
  cost.flops += pairs * (2 * (layer.has_output() ? layer.output_width() : 0) * dv * widths + 2 * dv * dv * widths +
                         2 * dv * (2 * ld * ld + ldv * ldv));
  for (const CompositionShape& shape : BaselineShapes(problem)) {
    cost.flops += kBaselineDraws * RandomCompositionFlops(shape);
  }
  cost.bytes_per_lane = std::max({cost.bytes_per_lane, LaneBytes(later), kDouble * 3 * dv * std::max(ld, ldv)});
  cost.bytes = kDouble * (heads * dv * dv + later.query_heads * (2 * ld * ld + ldv * ldv));
  cost.response_bytes += 40 * (pairs + 1);
  return cost;
}

struct CircuitsWork::Triangles {
  MatrixXd query, key, value, output;  // of R; what compositions do not need is empty
  double query_key_norm = 0;           // of W_q W_k^T, without the scale of scores
  double output_value_norm = 0;
};

// Queries and keys may hold anything.
class CircuitsWork::Values final : public Phase {
 public:
  explicit Values(const CircuitsProblem& problem) : Phase(Stage::kMaps), problem_(problem) {}

  std::int64_t Begin() override { return problem_.queries.empty() ? 0 : kTensors; }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& /*lane*/) override {
    constexpr std::int64_t kPiece = std::int64_t{1} << 18;
    const TensorView& tensor = Tensor(task);
    const std::int64_t count = tensor.shape[0] * tensor.shape[1];
    const std::int64_t first = step * kPiece;
    const std::int64_t n = std::min(kPiece, count - first);
    const std::int64_t found = FirstNonFinite(reinterpret_cast<const float*>(tensor.data) + first, n);
    if (found < n) bad_[static_cast<std::size_t>(task)] = first + found;
    return found == n && first + n < count;
  }

  absl::Status End() override {
    Violations violations;
    for (std::int64_t task = 0; task < kTensors; ++task) {
      const std::int64_t bad = bad_[static_cast<std::size_t>(task)];
      if (bad < 0) continue;
      const float value = reinterpret_cast<const float*>(Tensor(task).data)[bad];
      violations.Add(task == 0 ? "queries" : "keys",
                     absl::StrCat(value, " at ", ToString(UnflattenIndex(bad, Tensor(task).shape))), "finite numbers");
    }
    return violations.ToStatus();
  }

 private:
  static constexpr std::int64_t kTensors = 2;

  const TensorView& Tensor(std::int64_t task) const { return task == 0 ? problem_.queries : problem_.keys; }

  const CircuitsProblem& problem_;
  std::array<std::int64_t, kTensors> bad_{-1, -1};  // each written by the one lane that has its task
};

// Each head that was asked for, then the triangles of each head of the later layer.
class CircuitsWork::Heads final : public Phase {
 public:
  explicit Heads(CircuitsWork& work) : Phase(Stage::kMaps), work_(work) {}

  std::int64_t Begin() override {
    heads_.resize(work_.heads_.size());
    later_.resize(work_.later_triangles_.size());
    return static_cast<std::int64_t>(heads_.size() + later_.size());
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t /*step*/, Lane& /*lane*/) override {
    const auto at = static_cast<std::size_t>(task);
    if (at < heads_.size()) return RunHead(at);
    return RunLater(at - heads_.size());
  }

 private:
  absl::StatusOr<bool> RunHead(std::size_t at) {
    HeadCircuitsResult& result = work_.heads_[at];
    if (heads_[at] == nullptr) heads_[at] = std::make_unique<HeadSteps>(work_.problem_, &result);
    absl::StatusOr<bool> more = heads_[at]->Step();
    if (!more.ok() || *more) return more;
    if (work_.problem_.later.has_value()) {
      work_.triangles_[at].value = std::move(heads_[at]->value_triangle());
      work_.triangles_[at].output_value_norm = result.output_value.frobenius_norm;
    }
    heads_[at].reset();
    return false;
  }

  bool RunLater(std::size_t at) {
    const CircuitLayer& layer = *work_.problem_.later;
    const auto head = static_cast<std::int64_t>(at);
    Triangles& triangles = work_.later_triangles_[at];
    std::unique_ptr<CircuitSteps>& steps = later_[at];
    const bool first = triangles.query.size() == 0;
    if (steps == nullptr) {
      steps = std::make_unique<CircuitSteps>(first ? QueryKeySteps(layer, head, false, 0)
                                                   : OutputValueSteps(layer, head, false, 0));
    }
    if (steps->Step()) return true;
    const double norm = steps->result().frobenius_norm;
    if (first) {
      triangles.query = std::move(steps->left_triangle());
      triangles.key = std::move(steps->right_triangle());
      triangles.query_key_norm = norm * std::sqrt(static_cast<double>(layer.head_size()));
    } else {
      triangles.output = std::move(steps->right_triangle());
      triangles.output_value_norm = norm;
    }
    steps.reset();
    return first;
  }

  CircuitsWork& work_;
  std::vector<std::unique_ptr<HeadSteps>> heads_;     // those in hand
  std::vector<std::unique_ptr<CircuitSteps>> later_;  // likewise
};

// Compositions. With OV1 = V1 O1 and a later circuit C D^T: ||V1 O1 C D^T|| = ||R(V1) (O1 C) R(D)^T||.
class CircuitsWork::Pairs final : public Phase {
 public:
  explicit Pairs(CircuitsWork& work) : Phase(Stage::kMaps), work_(work), layer_(work.problem_.layer) {}

  std::int64_t Begin() override {
    pairs_.resize(work_.compositions_.size());
    return static_cast<std::int64_t>(pairs_.size());
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t /*step*/, Lane& /*lane*/) override {
    const auto at = static_cast<std::size_t>(task);
    CompositionResult& result = work_.compositions_[at];
    const Triangles& second = work_.later_triangles_[at % work_.later_triangles_.size()];
    const CircuitLayer& later = *work_.problem_.later;
    const std::int64_t head = result.later_head;
    switch (pairs_[at].way) {
      case 0: return Feed(at, {QueryOf(later, head), second.key, second.query_key_norm, &result.query});
      case 1: return Feed(at, {KeyOf(later, head), second.query, second.query_key_norm, &result.key});
      default: return Feed(at, {ValueOf(later, head), second.output, second.output_value_norm, &result.value});
    }
  }

 private:
  // Through which factor of the later head, and what lies behind it.
  struct Way {
    WeightsView reads;
    const MatrixXd& behind;
    double norm;
    double* score;
  };
  struct Pair {
    int way = 0;    // queries, keys, values
    int stage = 0;  // O1 C, then R(V1) before it, then R(D)^T behind it
    std::int64_t step = 0;
    MatrixXd last, next;
  };

  // One step of a way. False: that was the last of the last.
  bool Feed(std::size_t at, const Way& way) {
    const Triangles& first = work_.triangles_[at / work_.later_triangles_.size()];
    Pair& pair = pairs_[at];
    if (pair.step == 0) {
      pair.next.resize(pair.stage == 0 ? first.value.cols() : first.value.rows(),
                       pair.stage == 2 ? way.behind.rows() : way.reads.cols());
    }
    bool more = false;
    if (pair.stage == 0) more = MeetStep(work_.compositions_[at].head, way.reads, pair);
    if (pair.stage == 1) more = ProductStep(first.value, pair.last, nullptr, pair.step, &pair.next);
    if (pair.stage == 2) more = ProductStep(pair.last, way.behind.transpose(), nullptr, pair.step, &pair.next);
    ++pair.step;
    if (more) return true;
    pair.last.swap(pair.next);
    pair.step = 0;
    if (++pair.stage < 3) return true;
    *way.score = CompositionScore(pair.last.norm(), first.output_value_norm, way.norm);
    pair.stage = 0;
    if (++pair.way < 3) return true;
    pair = Pair();
    return false;
  }

  // O1 C; without an output matrix O1 picks the head's own rows of C.
  bool MeetStep(std::int64_t head, const WeightsView& reads, Pair& pair) const {
    if (layer_.has_output()) {
      return ProductStep(OutputOf(layer_, head).transpose(), reads, nullptr, pair.step, &pair.next);
    }
    pair.next = reads.middleRows(head * layer_.value_head_size(), layer_.value_head_size()).cast<double>();
    return false;
  }

  CircuitsWork& work_;
  const CircuitLayer& layer_;
  std::vector<Pair> pairs_;
};

// A task is a draw: a step for queries and keys, which have one law, and one for values.
class CircuitsWork::Baseline final : public Phase {
 public:
  explicit Baseline(CircuitsWork& work) : Phase(Stage::kMaps), work_(work) {}

  std::int64_t Begin() override { return work_.problem_.later.has_value() ? kBaselineDraws : 0; }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& /*lane*/) override {
    const auto way = static_cast<std::size_t>(step);
    const std::uint64_t seed = static_cast<std::uint64_t>(2 * task + step);
    draws_[way][static_cast<std::size_t>(task)] = RandomComposition(BaselineShapes(work_.problem_)[way], seed);
    return step == 0;
  }

  absl::Status End() override {
    if (!work_.problem_.later.has_value()) return absl::OkStatus();
    double scores = 0;
    double values = 0;
    for (const double score : draws_[0]) scores += score / kBaselineDraws;
    for (const double score : draws_[1]) values += score / kBaselineDraws;
    work_.baseline_.query = work_.baseline_.key = scores;
    work_.baseline_.value = values;
    return absl::OkStatus();
  }

 private:
  CircuitsWork& work_;
  std::array<std::array<double, kBaselineDraws>, 2> draws_{};
};

CircuitsWork::CircuitsWork(const CircuitsProblem& problem, MemoryAccount& account)
    : PhasedWork(account, 1, absl::InfinitePast()), problem_(problem) {}

CircuitsWork::~CircuitsWork() = default;

void CircuitsWork::Build() {
  for (const std::int64_t head : problem_.heads) heads_.emplace_back().head = head;
  if (problem_.later.has_value()) {
    triangles_.resize(problem_.heads.size());
    later_triangles_.resize(static_cast<std::size_t>(problem_.later->query_heads));
    for (const std::int64_t head : problem_.heads) {
      for (std::int64_t later = 0; later < problem_.later->query_heads; ++later) {
        compositions_.push_back({head, later, 0, 0, 0});
      }
    }
  }
  Add(std::make_unique<Values>(problem_));
  Add(std::make_unique<Heads>(*this));
  Add(std::make_unique<Pairs>(*this));
  Add(std::make_unique<Baseline>(*this));
}

}  // namespace headlight
