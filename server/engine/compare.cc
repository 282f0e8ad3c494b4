#include "server/engine/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/time/clock.h"
#include "server/base/half.h"
#include "server/engine/reference_work.h"
#include "server/engine/sequence.h"

namespace headlight {
namespace {

// |a - b|; infinity where one side alone is NaN.
double Distance(double a, double b) {
  if (std::isnan(a) != std::isnan(b)) return std::numeric_limits<double>::infinity();
  return std::isnan(a) || a == b ? 0 : std::fabs(a - b);
}

// The differences of one row of B x Tq.
struct RowDifference {
  double max = -1;
  double sum = 0;
  std::int64_t column = 0;

  void Take(double distance, std::int64_t at) {
    sum += distance;
    if (distance > max) {
      max = distance;
      column = at;
    }
  }
};

// Where column c (of all heads side by side) of row (b, t) lies in the output.
std::int64_t OutputOffset(const ProblemSpec& spec, std::int64_t row, std::int64_t column, std::int64_t width) {
  const Dimensions& d = spec.dims;
  if (spec.projection.has_value() || spec.layout == HeadLayout::kTokenMajor) return row * width + column;
  const std::int64_t head = row / d.query_tokens * d.query_heads + column / d.value_head_size;
  return (head * d.query_tokens + row % d.query_tokens) * d.value_head_size + column % d.value_head_size;
}

// Holds two or three outputs against each other, a row of B x Tq per step of a task.
class Differences final : public Phase {
 public:
  using Get = std::function<double(std::int64_t row, std::int64_t column)>;

  Differences(const ProblemSpec& spec, std::int64_t width) : Phase(Stage::kMaps), spec_(spec), width_(width) {}

  // Rows row_at(0) .. row_at(rows - 1) of a against b; `b` gets the number of the row among them. The result is there
  // when the phase has ended.
  void Add(std::int64_t rows, std::function<std::int64_t(std::int64_t)> row_at, Get a, Get b, Difference* result) {
    pairs_.push_back({rows, std::move(row_at), std::move(a), std::move(b), result,
                      std::vector<RowDifference>(static_cast<std::size_t>(rows))});
  }

  std::int64_t Begin() override {
    std::int64_t tasks = 0;
    for (const Pair& pair : pairs_) tasks += pair.rows;
    return tasks;
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t /*step*/, Lane& /*lane*/) override {
    for (Pair& pair : pairs_) {
      if (task >= pair.rows) {
        task -= pair.rows;
        continue;
      }
      RowDifference& difference = pair.differences[static_cast<std::size_t>(task)];
      const std::int64_t row = pair.row_at(task);
      for (std::int64_t c = 0; c < width_; ++c) difference.Take(Distance(pair.a(row, c), pair.b(task, c)), c);
      break;
    }
    return false;
  }

  absl::Status End() override {
    for (const Pair& pair : pairs_) *pair.result = Total(pair);
    return absl::OkStatus();
  }

 private:
  struct Pair {
    std::int64_t rows;
    std::function<std::int64_t(std::int64_t)> row_at;
    Get a, b;
    Difference* result;
    std::vector<RowDifference> differences;
  };

  // Summed in the order of rows, so that the mean has the same bits whoever computed what.
  Difference Total(const Pair& pair) const {
    Difference total;
    double max = -1;
    double sum = 0;
    for (std::int64_t i = 0; i < pair.rows; ++i) {
      const RowDifference& row = pair.differences[static_cast<std::size_t>(i)];
      sum += row.sum;
      if (row.max <= max) continue;
      max = row.max;
      total.index = UnflattenIndex(OutputOffset(spec_, pair.row_at(i), row.column, width_), spec_.OutputShape());
    }
    const bool head_major = !spec_.projection.has_value() && spec_.layout == HeadLayout::kHeadMajor;
    total.max_abs = max;
    total.mean_abs = sum / static_cast<double>(pair.rows * width_);
    total.rows = pair.rows * (head_major ? spec_.dims.query_heads : 1);
    return total;
  }

  const ProblemSpec& spec_;
  std::int64_t width_;
  std::vector<Pair> pairs_;
};

// An element of a finished output, whatever its kind.
Differences::Get OutputGetter(const ProblemSpec& spec, std::int64_t width, const AttentionWork& work) {
  return [&spec, width, &work](std::int64_t row, std::int64_t column) {
    return static_cast<double>(ElementAsFloat(work.output(), OutputOffset(spec, row, column, width)));
  };
}

Differences::Get ReferenceGetter(const ReferenceWork& reference) {
  return [&reference](std::int64_t i, std::int64_t column) { return reference.Row(i)[column]; };
}

class DifferenceWork final : public PhasedWork {
 public:
  DifferenceWork(const ProblemSpec& spec, MemoryAccount& account, const AttentionWork& naive,
                 const AttentionWork& flash, const ReferenceWork& reference, std::int64_t reference_rows)
      : PhasedWork(account, 0, absl::InfinitePast()),
        spec_(spec),
        naive_(naive),
        flash_(flash),
        reference_(reference),
        reference_rows_(reference_rows) {}

  Difference naive_flash, naive_reference, flash_reference;

 private:
  void Build() override {
    const std::int64_t width = reference_.width();
    const auto of = [this, width](const AttentionWork& work) { return OutputGetter(spec_, width, work); };
    const auto all = [](std::int64_t i) { return i; };
    const auto chosen = [this](std::int64_t i) { return reference_.RowAt(i); };
    const Differences::Get exact = ReferenceGetter(reference_);
    auto phase = std::make_unique<Differences>(spec_, width);
    phase->Add(spec_.dims.batch * spec_.dims.query_tokens, all, of(naive_), of(flash_), &naive_flash);
    phase->Add(reference_rows_, chosen, of(naive_), exact, &naive_reference);
    phase->Add(reference_rows_, chosen, of(flash_), exact, &flash_reference);
    PhasedWork::Add(std::move(phase));
  }

  const ProblemSpec& spec_;
  const AttentionWork& naive_;
  const AttentionWork& flash_;
  const ReferenceWork& reference_;
  std::int64_t reference_rows_;
};

// Rows of one attention against the reference.
class RowsDifferenceWork final : public PhasedWork {
 public:
  RowsDifferenceWork(const ProblemSpec& spec, MemoryAccount& account, const AttentionWork& attention,
                     const ReferenceWork& reference, std::int64_t rows)
      : PhasedWork(account, 0, absl::InfinitePast()),
        spec_(spec),
        attention_(attention),
        reference_(reference),
        rows_(rows) {}

  Difference difference;

 private:
  void Build() override {
    auto phase = std::make_unique<Differences>(spec_, reference_.width());
    phase->Add(
        rows_, [this](std::int64_t i) { return reference_.RowAt(i); },
        OutputGetter(spec_, reference_.width(), attention_), ReferenceGetter(reference_), &difference);
    PhasedWork::Add(std::move(phase));
  }

  const ProblemSpec& spec_;
  const AttentionWork& attention_;
  const ReferenceWork& reference_;
  std::int64_t rows_;
};

}  // namespace

struct CompareWork::Parts {
  Parts(const ExecutionPlan& naive_plan, const ExecutionPlan& flash_plan, const ReferencePlan& reference_plan,
        const AttentionData& data, MatmulCache& matmuls, MemoryLedger* ledger)
      : plan(reference_plan),
        naive_account(ledger),
        flash_account(ledger),
        reference_account(ledger),
        naive(naive_plan, data, naive_account, matmuls, {}, absl::InfinitePast()),
        flash(flash_plan, data, flash_account, matmuls, {}, absl::InfinitePast()),
        reference(naive_plan.spec, reference_plan, data, reference_account),
        difference(naive_plan.spec, reference_account, naive, flash, reference, reference_plan.rows) {}

  const ReferencePlan& plan;
  MemoryAccount naive_account, flash_account, reference_account;
  AttentionWork naive, flash;
  ReferenceWork reference;
  DifferenceWork difference;
  Sequence order{{&naive, &flash, &reference, &difference}};
};

CompareWork::CompareWork(const ExecutionPlan& naive, const ExecutionPlan& flash, const ReferencePlan& reference,
                         const AttentionData& data, MatmulCache& matmuls, MemoryLedger* ledger)
    : parts_(std::make_unique<Parts>(naive, flash, reference, data, matmuls, ledger)) {}

CompareWork::~CompareWork() = default;

absl::StatusOr<int> CompareWork::BeginPhase(int workers) { return parts_->order.BeginPhase(workers); }
absl::StatusOr<bool> CompareWork::RunUnit(int lane) { return parts_->order.RunUnit(lane); }
Stage CompareWork::stage() const { return parts_->order.stage(); }

ExecutionRecord CompareWork::naive() const { return parts_->naive.Record(); }
ExecutionRecord CompareWork::flash() const { return parts_->flash.Record(); }
Difference CompareWork::naive_flash() const { return parts_->difference.naive_flash; }
Difference CompareWork::naive_reference() const { return parts_->difference.naive_reference; }
Difference CompareWork::flash_reference() const { return parts_->difference.flash_reference; }

ReferenceRecord CompareWork::reference() const {
  const StageTimes& times = parts_->reference.times();
  return {parts_->plan.rows, parts_->plan.rows_total, parts_->plan.flops,
          times[Stage::kProject] + times[Stage::kAttend], parts_->reference_account.peak()};
}

struct VerificationWork::Parts {
  Parts(const AttentionWork& attention, const ExecutionPlan& plan, const ReferencePlan& rows, const AttentionData& data,
        MemoryAccount& account)
      : reference(plan.spec, rows, data, account), difference(plan.spec, account, attention, reference, rows.rows) {}

  ReferenceWork reference;
  RowsDifferenceWork difference;
};

VerificationWork::VerificationWork(const AttentionWork& attention, const ExecutionPlan& plan,
                                   const ReferencePlan& reference, const AttentionData& data, MemoryAccount& account)
    : parts_(std::make_unique<Parts>(attention, plan, reference, data, account)) {}

VerificationWork::~VerificationWork() = default;

std::vector<PhasedWork*> VerificationWork::order() { return {&parts_->reference, &parts_->difference}; }

Difference VerificationWork::difference() const { return parts_->difference.difference; }

}  // namespace headlight
