#include "server/analysis/ablation_work.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "server/engine/fill.h"
#include "server/engine/linear.h"
#include "server/engine/overflow.h"
#include "server/kernels/convert.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

constexpr std::int64_t kFloat = sizeof(float);
constexpr std::int64_t kDouble = sizeof(double);
// Numbers that one unit copies, widens or adds up.
constexpr std::int64_t kPiece = std::int64_t{1} << 16;
// A block of what heads add: so many rows and at most so many columns, of all heads so many numbers.
constexpr std::int64_t kBlockRows = 64;
constexpr std::int64_t kBlockColumns = 256;
constexpr std::int64_t kBlockNumbers = std::int64_t{1} << 20;
// Sums are kept apart for so many runs of blocks, and added up in their order: lanes change nothing.
constexpr std::int64_t kRuns = 64;
// A multiply-add in double takes the time of about so many floating-point operations of products.
constexpr std::int64_t kDoubleFlops = 8;

std::int64_t WidthOfOutput(const ProblemSpec& spec) { return spec.projection->output_width; }
std::int64_t ConcatWidth(const Dimensions& d) { return d.query_heads * d.value_head_size; }
std::int64_t RowsPerPiece(std::int64_t width) { return std::max<std::int64_t>(1, kPiece / width); }

std::int64_t BlockColumns(const ProblemSpec& spec) {
  if (WidthOfOutput(spec) == 0) return spec.dims.value_head_size;
  const std::int64_t fit = kBlockNumbers / (kBlockRows * spec.dims.query_heads) / 16 * 16;
  return std::min(WidthOfOutput(spec), std::clamp<std::int64_t>(fit, 16, kBlockColumns));
}

std::int64_t RowBlocks(const Dimensions& d) { return d.batch * CeilDiv(d.query_tokens, kBlockRows); }
std::int64_t Runs(const Dimensions& d) { return std::min(kRuns, RowBlocks(d)); }
// Of one run: pairs, dots with the output, and its square.
std::int64_t SumsPerRun(std::int64_t heads) { return heads * (heads + 1) / 2 + heads + 1; }

// A block's scratch: a head's rows, the output's, and what each head adds.
std::int64_t BlockScratch(const ProblemSpec& spec) {
  const Dimensions& d = spec.dims;
  return kBlockRows * (d.value_head_size + BlockColumns(spec) * (1 + d.query_heads));
}

// The means of all heads over all rows, a head per task.
class Means final : public Phase {
 public:
  Means(const Dimensions& dims, const float* heads, MemoryAccount& account, FloatBuffer& means)
      : Phase(Stage::kMaps), dims_(dims), heads_(heads), account_(account), means_(means) {}

  std::int64_t Begin() override {
    sums_ = Buffer<double>(account_, MemoryUse::kScratch, ConcatWidth(dims_));
    return dims_.query_heads;
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& /*lane*/) override {
    const std::int64_t size = dims_.value_head_size;
    const std::int64_t tokens = dims_.query_tokens;
    const std::int64_t rows = dims_.batch * tokens;
    double* sums = sums_.data() + task * size;
    if (step == 0) std::fill_n(sums, size, 0.0);
    const std::int64_t begin = step * RowsPerPiece(size);
    const std::int64_t end = std::min(begin + RowsPerPiece(size), rows);
    for (std::int64_t r = begin; r < end; ++r) {
      const float* row = heads_ + ((r / tokens * dims_.query_heads + task) * tokens + r % tokens) * size;
      for (std::int64_t c = 0; c < size; ++c) sums[c] += row[c];
    }
    if (end < rows) return true;
    float* means = means_.data() + task * size;
    for (std::int64_t c = 0; c < size; ++c) means[c] = static_cast<float>(sums[c] / static_cast<double>(rows));
    return false;
  }

 private:
  const Dimensions& dims_;
  const float* heads_;  // [B, Hq, T, Dv]
  MemoryAccount& account_;
  FloatBuffer& means_;
  Buffer<double> sums_;
};

// Inner products of what heads add: runs of row blocks are tasks; a step is one head of one block.
class Products final : public Phase {
 public:
  struct Input {
    const ProblemSpec& spec;
    const float* heads;    // [B, Hq, T, Dv]
    const float* output;   // [B, T, Eo], or [B, T, Hq x Dv]
    const float* weights;  // [Hq x Dv, Eo], or null
    const float* means;    // [Hq x Dv], or null
  };

  Products(const Input& input, MemoryAccount& account, MatmulCache& matmuls, HeadProducts& products)
      : Phase(Stage::kMaps),
        in_(input),
        dims_(input.spec.dims),
        width_(input.weights != nullptr ? WidthOfOutput(input.spec) : ConcatWidth(dims_)),
        columns_(BlockColumns(input.spec)),
        height_(std::min(kBlockRows, RoundUp(dims_.query_tokens, kTailRows))),
        account_(account),
        matmuls_(matmuls),
        products_(products) {}

  std::int64_t Begin() override {
    sums_ = Buffer<double>(account_, MemoryUse::kScratch, Runs(dims_) * SumsPerRun(dims_.query_heads));
    return Runs(dims_);
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override {
    const std::int64_t heads = dims_.query_heads;
    double* sums = sums_.data() + task * SumsPerRun(heads);
    if (step == 0) std::fill_n(sums, SumsPerRun(heads), 0.0);
    const std::int64_t first = task * RowBlocks(dims_) / Runs(dims_);
    const std::int64_t end = (task + 1) * RowBlocks(dims_) / Runs(dims_);
    const std::int64_t column_blocks = in_.weights != nullptr ? CeilDiv(width_, columns_) : 1;
    const std::int64_t block = step / heads;
    Block at = BlockAt(first + block / column_blocks, step % heads);
    at.column = in_.weights != nullptr ? block % column_blocks * columns_ : at.head * dims_.value_head_size;
    at.columns = std::min(columns_, width_ - at.column);
    if (absl::Status status = RunHead(at, sums, lane.scratch); !status.ok()) return status;
    return step + 1 < (end - first) * column_blocks * heads;
  }

  absl::Status End() override {
    const std::int64_t heads = dims_.query_heads;
    for (std::int64_t run = 0; run < Runs(dims_); ++run) {
      const double* sums = sums_.data() + run * SumsPerRun(heads);
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t g = 0; g <= h; ++g) products_.Pair(g, h) += *sums++;
      }
      for (std::int64_t h = 0; h < heads; ++h) products_.WithOutput(h) += *sums++;
      products_.output_squared += *sums;
    }
    for (std::int64_t h = 0; h < heads; ++h) {
      // Products of finite float32 numbers do not overflow in double: what heads add does in float32.
      if (!std::isfinite(products_.Pair(h, h))) return Overflow("embeddings", "what a head adds to the output", {h});
    }
    return absl::OkStatus();
  }

 private:
  struct Block {
    std::int64_t batch, token, rows, head, column, columns;
  };

  Block BlockAt(std::int64_t row_block, std::int64_t head) const {
    const std::int64_t per_batch = CeilDiv(dims_.query_tokens, kBlockRows);
    const std::int64_t token = row_block % per_batch * kBlockRows;
    return {row_block / per_batch, token, std::min(kBlockRows, dims_.query_tokens - token), head, 0, 0};
  }

  // The head's rows, less the mean where there is one, at `out`, with zeros below.
  void LoadHead(const Block& at, float* out) const {
    const std::int64_t size = dims_.value_head_size;
    const float* rows = in_.heads + ((at.batch * dims_.query_heads + at.head) * dims_.query_tokens + at.token) * size;
    std::copy_n(rows, at.rows * size, out);
    std::fill(out + at.rows * size, out + height_ * size, 0.0F);
    if (in_.means == nullptr) return;
    for (std::int64_t r = 0; r < at.rows; ++r) AddScaledRow(out + r * size, in_.means + at.head * size, size, -1);
  }

  void LoadOutput(const Block& at, float* out) const {
    const float* rows = in_.output + (at.batch * dims_.query_tokens + at.token) * width_ + at.column;
    for (std::int64_t r = 0; r < at.rows; ++r) std::copy_n(rows + r * width_, at.columns, out + r * at.columns);
    std::fill(out + at.rows * at.columns, out + height_ * at.columns, 0.0F);
  }

  absl::Status RunHead(const Block& at, double* sums, float* scratch) const {
    const std::int64_t heads = dims_.query_heads;
    const std::int64_t size = dims_.value_head_size;
    const std::int64_t numbers = height_ * at.columns;
    float* rows = scratch;
    float* output = rows + kBlockRows * size;
    float* added = output + kBlockRows * columns_;
    double* pairs = sums + at.head * (at.head + 1) / 2;
    double& with_output = sums[heads * (heads + 1) / 2 + at.head];
    double& output_squared = sums[heads * (heads + 1) / 2 + heads];
    LoadHead(at, rows);
    if (in_.weights == nullptr) {  // heads add to columns of their own
      LoadOutput(at, output);
      pairs[at.head] += DotInDouble(rows, rows, numbers);
      with_output += DotInDouble(rows, output, numbers);
      output_squared += DotInDouble(output, output, numbers);
      return absl::OkStatus();
    }
    if (at.head == 0) {
      LoadOutput(at, output);
      output_squared += DotInDouble(output, output, numbers);
    }
    float* own = added + at.head * numbers;
    const MatmulShape shape{height_, at.columns, size, size, width_, at.columns, false, false};
    const float* weights = in_.weights + at.head * size * width_ + at.column;
    if (absl::Status status = matmuls_.Run(shape, rows, weights, own); !status.ok()) return status;
    for (std::int64_t g = 0; g <= at.head; ++g) pairs[g] += DotInDouble(added + g * numbers, own, numbers);
    with_output += DotInDouble(own, output, numbers);
    return absl::OkStatus();
  }

  const Input in_;
  const Dimensions& dims_;
  const std::int64_t width_, columns_, height_;
  MemoryAccount& account_;
  MatmulCache& matmuls_;
  HeadProducts& products_;
  Buffer<double> sums_;  // of each run: pairs by the larger head, dots with the output, its square
};

bool Widens(const AttentionData& data) {
  return !data.layer.output.empty() && data.layer.output.kind != TensorKind::kF32;
}

std::int64_t ScratchFloats(const ExecutionPlan& plan) {
  const ProjectionBlocks& blocks = plan.projection_blocks;
  return std::max(BlockScratch(plan.spec), blocks.rows * (ConcatWidth(plan.spec.dims) + blocks.columns));
}

}  // namespace

AblationCost CostOfAblation(const ExecutionPlan& plan, const AttentionData& data, const Ablation& ablation) {
  const Dimensions& d = plan.spec.dims;
  const std::int64_t concat = ConcatWidth(d);
  const std::int64_t width = WidthOfOutput(plan.spec);
  const std::int64_t rows = d.batch * d.query_tokens;
  const bool mean = ablation.mode == AblationMode::kMean;
  const bool off = !ablation.heads.empty();
  AblationCost cost;
  cost.flops = width == 0 ? kDoubleFlops * 3 * rows * concat
                          : 2 * rows * concat * width + kDoubleFlops * rows * width * SumsPerRun(d.query_heads);
  if (mean) cost.flops += kDoubleFlops * rows * concat;
  if (off) cost.flops += 2 * (rows + 1) * concat * width;
  std::int64_t floats = Widens(data) ? concat * width : 0;
  if (mean) floats += 2 * concat;
  if (off) floats += rows * (concat + width);
  cost.workspace = floats * kFloat + (Runs(d) * SumsPerRun(d.query_heads) + concat) * kDouble;
  cost.lane_scratch = ScratchFloats(plan) * kFloat;
  const std::int64_t output_width = width == 0 ? concat : width;
  cost.answer = rows * output_width * WidthOf(ablation.kind) + (mean ? output_width * kFloat : 0);
  return cost;
}

AblationWork::AblationWork(const ExecutionPlan& plan, const AttentionData& data, const Ablation& ablation,
                           AttentionWork& attention, MemoryAccount& account, MatmulCache& matmuls)
    : PhasedWork(account, ScratchFloats(plan), absl::InfinitePast()),
      plan_(plan),
      data_(data),
      ablation_(ablation),
      attention_(attention),
      account_(account),
      matmuls_(matmuls),
      products_(plan.spec.dims.query_heads) {}

void AblationWork::Build() {
  attended_ = attention_.TakeResult();
  const Dimensions& d = plan_.spec.dims;
  AddWeights();
  if (ablation_.mode == AblationMode::kMean) {
    means_ = FloatBuffer(account_, MemoryUse::kProjection, ConcatWidth(d));
    Add(std::make_unique<Means>(d, attended_.head_outputs.floats(), account_, means_));
  }
  const Products::Input input{plan_.spec, attended_.head_outputs.floats(), attended_.output.floats(), weights_,
                              means_.empty() ? nullptr : means_.data()};
  Add(std::make_unique<Products>(input, account_, matmuls_, products_));
  if (!ablation_.heads.empty()) AddAblatedHeads();
  AddOutput();
}

void AblationWork::AddWeights() {
  const TensorView& given = data_.layer.output;
  if (given.empty()) return;
  weights_ = reinterpret_cast<const float*>(given.data);
  if (!Widens(data_)) return;
  const std::int64_t count = ConcatWidth(plan_.spec.dims) * WidthOfOutput(plan_.spec);
  own_weights_ = FloatBuffer(account_, MemoryUse::kProjection, count);
  weights_ = own_weights_.data();
  auto widen = std::make_unique<Fill>();
  widen->Add(count, kPiece, [given, out = own_weights_.data()](std::int64_t first, std::int64_t n) {
    WidenRow(given.kind, given.data + first * WidthOf(given.kind), out + first, n);
  });
  Add(std::move(widen));
}

// As attention does with gains: its output heads side by side, zeros for those that are off, through the same product.
void AblationWork::AddAblatedHeads() {
  const Dimensions& d = plan_.spec.dims;
  const std::int64_t size = d.value_head_size;
  const std::int64_t width = ConcatWidth(d);
  const std::int64_t rows = d.batch * d.query_tokens;
  std::vector<bool> off(static_cast<std::size_t>(d.query_heads));
  for (const std::int64_t h : ablation_.heads) off[static_cast<std::size_t>(h)] = true;
  auto fill = std::make_unique<Fill>();
  concat_ = FloatBuffer(account_, MemoryUse::kProjection, rows * width);
  fill->Add(rows, RowsPerPiece(width), [this, &d, off, size](std::int64_t first, std::int64_t n) {
    for (std::int64_t i = first * d.query_heads; i < (first + n) * d.query_heads; ++i) {
      const std::int64_t row = i / d.query_heads;
      const std::int64_t head = i % d.query_heads;
      const std::int64_t from = (row / d.query_tokens * d.query_heads + head) * d.query_tokens + row % d.query_tokens;
      float* out = concat_.data() + i * size;
      if (off[static_cast<std::size_t>(head)]) {
        std::fill_n(out, size, 0.0F);
      } else {
        std::copy_n(attended_.head_outputs.floats() + from * size, size, out);
      }
    }
  });
  if (!means_.empty()) {
    off_means_ = FloatBuffer(account_, MemoryUse::kProjection, width);
    fill->Add(1, 1, [this, off, size, width](std::int64_t /*first*/, std::int64_t /*n*/) {
      for (std::int64_t i = 0; i < width; ++i) {
        off_means_.data()[i] = off[static_cast<std::size_t>(i / size)] ? means_.data()[i] : 0;
      }
    });
  }
  Add(std::move(fill));
}

void AblationWork::AddOutput() {
  const Dimensions& d = plan_.spec.dims;
  const std::int64_t concat = ConcatWidth(d);
  const std::int64_t width = weights_ != nullptr ? WidthOfOutput(plan_.spec) : concat;
  const std::int64_t rows = d.batch * d.query_tokens;
  float* from = attended_.output.floats();
  if (!means_.empty()) contribution_ = MakeTensor(TensorKind::kF32, {width});
  if (!concat_.empty() && weights_ != nullptr) {
    auto linear = std::make_unique<Linear>(matmuls_, plan_.projection_blocks, false);
    projected_ = FloatBuffer(account_, MemoryUse::kProjection, rows * width);
    linear->Add({d.batch, d.query_tokens, concat, width, concat_.data(), weights_, data_.layer.output_bias,
                 TensorKind::kF32, reinterpret_cast<std::byte*>(projected_.data())});
    if (!off_means_.empty()) {
      linear->Add({1,
                   1,
                   concat,
                   width,
                   off_means_.data(),
                   weights_,
                   {},
                   TensorKind::kF32,
                   reinterpret_cast<std::byte*>(contribution_.bytes.data())});
    }
    Add(std::move(linear));
    from = projected_.data();
  } else if (!concat_.empty()) {
    from = concat_.data();
  }
  auto fill = std::make_unique<Fill>();
  if (weights_ == nullptr && !off_means_.empty()) {
    fill->Add(1, 1, [this, width](std::int64_t /*first*/, std::int64_t /*n*/) {
      std::copy_n(off_means_.data(), width, contribution_.floats());
    });
  }
  output_ = MakeTensor(ablation_.kind, plan_.spec.OutputShape());
  const float* shift = off_means_.empty() ? nullptr : weights_ != nullptr ? contribution_.floats() : off_means_.data();
  fill->Add(rows, RowsPerPiece(width), [this, from, shift, width](std::int64_t first, std::int64_t n) {
    for (std::int64_t row = first; row < first + n; ++row) {
      float* numbers = from + row * width;
      if (shift != nullptr) AddRow(numbers, shift, width);
      auto* out = reinterpret_cast<std::byte*>(output_.bytes.data()) + row * width * WidthOf(ablation_.kind);
      NarrowRow(ablation_.kind, numbers, out, width);
    }
  });
  Add(std::move(fill));
}

}  // namespace headlight
