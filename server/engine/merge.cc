#include "server/engine/merge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/engine/check_values.h"
#include "server/engine/fill.h"
#include "server/engine/linear.h"
#include "server/engine/overflow.h"
#include "server/kernels/convert.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

// Numbers that one unit joins.
constexpr std::int64_t kPiece = std::int64_t{1} << 16;

const float* AsFloats(const TensorView& tensor) { return reinterpret_cast<const float*>(tensor.data); }

std::int64_t PartCount(const MergeProblem& p) { return static_cast<std::int64_t>(p.partials.size()); }
std::int64_t RowsPerTask(const MergeProblem& p) {
  return std::max<std::int64_t>(1, kPiece / (p.value_head_size * PartCount(p)));
}

std::int64_t ScratchFloats(const MergeProblem& p) {
  const std::int64_t product = p.output_weights.empty() ? 0 : p.blocks.rows * (p.concat_width() + p.blocks.columns);
  return std::max(2 * p.value_head_size, product);
}

// Some rows of one head are a task.
class JoinRows final : public Phase {
 public:
  struct Into {
    std::byte* output;  // in the order of the answer
    TensorKind kind;
    HeadLayout layout;
    float* log_sum_exp;  // [B, H, T]
  };

  JoinRows(const MergeProblem& problem, const Into& into) : Phase(Stage::kAttend), p_(problem), into_(into) {}

  std::int64_t Begin() override { return p_.batch * p_.heads * CeilDiv(p_.tokens, RowsPerTask(p_)); }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t /*step*/, Lane& lane) override {
    const std::int64_t runs = CeilDiv(p_.tokens, RowsPerTask(p_));
    const std::int64_t batch = task / runs / p_.heads;
    const std::int64_t head = task / runs % p_.heads;
    const std::int64_t begin = task % runs * RowsPerTask(p_);
    const std::int64_t end = std::min(begin + RowsPerTask(p_), p_.tokens);
    for (std::int64_t token = begin; token < end; ++token) {
      if (!Join(batch, head, token, lane.scratch)) {
        return Overflow("head_gains", "an output with its gain", {batch, head, token});
      }
    }
    return false;
  }

 private:
  std::int64_t Place(HeadLayout layout, std::int64_t batch, std::int64_t head, std::int64_t token) const {
    return layout == HeadLayout::kHeadMajor ? (batch * p_.heads + head) * p_.tokens + token
                                            : (batch * p_.tokens + token) * p_.heads + head;
  }

  // False: a number is beyond float32.
  bool Join(std::int64_t batch, std::int64_t head, std::int64_t token, float* scratch) const {
    const std::int64_t size = p_.value_head_size;
    const auto h = static_cast<std::size_t>(head);
    const std::int64_t row = Place(HeadLayout::kHeadMajor, batch, head, token);
    double largest = -std::numeric_limits<double>::infinity();
    for (const PartialViews& part : p_.partials) largest = std::max<double>(largest, AsFloats(part.log_sum_exp)[row]);
    std::fill_n(scratch, size, 0.0F);
    into_.log_sum_exp[row] = static_cast<float>(largest);
    if (std::isfinite(largest)) {
      double sum = 0;
      for (const PartialViews& part : p_.partials) sum += std::exp(AsFloats(part.log_sum_exp)[row] - largest);
      into_.log_sum_exp[row] = static_cast<float>(largest + std::log(sum));
      if (!p_.sinks.empty()) sum += std::exp(p_.sinks[h] - largest);
      const double gain = p_.head_gains.empty() ? 1 : p_.head_gains[h];
      for (const PartialViews& part : p_.partials) {
        const double weight = gain * std::exp(AsFloats(part.log_sum_exp)[row] - largest) / sum;
        const std::int64_t first = Place(p_.layout, batch, head, token) * size;
        WidenRow(part.output.kind, part.output.data + first * WidthOf(part.output.kind), scratch + size, size);
        AddScaledRow(scratch, scratch + size, size, static_cast<float>(weight));
      }
    }
    const std::int64_t first = Place(into_.layout, batch, head, token) * size;
    NarrowRow(into_.kind, scratch, into_.output + first * WidthOf(into_.kind), size);
    return FirstNonFinite(scratch, size) == size;
  }

  const MergeProblem& p_;
  const Into into_;
};

}  // namespace

MergeCost CostOfMerge(const MergeProblem& p) {
  constexpr std::int64_t kFloat = WidthOf(TensorKind::kF32);
  const std::int64_t rows = p.batch * p.tokens;
  MergeCost cost;
  cost.joined = rows * p.concat_width() * PartCount(p);
  cost.flops = 2 * rows * p.concat_width() * p.output_width();
  if (!p.output_weights.empty()) {
    const bool widened = p.output_weights.kind != TensorKind::kF32;
    cost.workspace = kFloat * p.concat_width() * (rows + (widened ? p.output_width() : 0));
  }
  cost.lane_scratch = kFloat * ScratchFloats(p);
  cost.answer = ElementCount(p.output_shape).value_or(0) * WidthOf(p.output_kind) + rows * p.heads * kFloat;
  return cost;
}

MergeWork::MergeWork(const MergeProblem& problem, MemoryAccount& account, MatmulCache& matmuls)
    : PhasedWork(account, ScratchFloats(problem), absl::Now()),
      problem_(problem),
      account_(account),
      matmuls_(matmuls) {}

void MergeWork::Build() {
  const MergeProblem& p = problem_;
  std::vector<NamedTensor> given;
  for (std::size_t i = 0; i < p.partials.size(); ++i) {
    const std::string field = absl::StrCat("partials[", i, "].");
    given.push_back({field + "output", p.partials[i].output, false});
    given.push_back({field + "log_sum_exp", p.partials[i].log_sum_exp, true});
  }
  given.push_back({"output_weights", p.output_weights, false});
  given.push_back({"output_bias", p.output_bias, false});
  Add(MakeValueCheck(given));
  output_ = MakeTensor(p.output_kind, p.output_shape);
  log_sum_exp_ = MakeTensor(TensorKind::kF32, {p.batch, p.heads, p.tokens});
  if (!p.output_weights.empty()) return AddProduct();
  auto* output = reinterpret_cast<std::byte*>(output_.bytes.data());
  Add(std::make_unique<JoinRows>(p, JoinRows::Into{output, p.output_kind, p.layout, log_sum_exp_.floats()}));
}

void MergeWork::AddProduct() {
  const MergeProblem& p = problem_;
  concat_ = FloatBuffer(account_, MemoryUse::kProjection, p.batch * p.tokens * p.concat_width());
  auto* rows = reinterpret_cast<std::byte*>(concat_.data());
  Add(std::make_unique<JoinRows>(
      p, JoinRows::Into{rows, TensorKind::kF32, HeadLayout::kTokenMajor, log_sum_exp_.floats()}));
  const float* weights = AsFloats(p.output_weights);
  if (p.output_weights.kind != TensorKind::kF32) {
    const std::int64_t count = p.concat_width() * p.output_width();
    own_weights_ = FloatBuffer(account_, MemoryUse::kProjection, count);
    weights = own_weights_.data();
    auto fill = std::make_unique<Fill>();
    fill->Add(count, kPiece, [this](std::int64_t first, std::int64_t n) {
      const TensorView& from = problem_.output_weights;
      WidenRow(from.kind, from.data + first * WidthOf(from.kind), own_weights_.data() + first, n);
    });
    Add(std::move(fill));
  }
  auto linear = std::make_unique<Linear>(matmuls_, p.blocks, false);
  linear->Add({p.batch, p.tokens, p.concat_width(), p.output_width(), concat_.data(), weights, p.output_bias,
               p.output_kind, reinterpret_cast<std::byte*>(output_.bytes.data())});
  Add(std::move(linear));
}

}  // namespace headlight
