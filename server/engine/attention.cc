#include "server/engine/attention.h"

#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "server/engine/alibi.h"
#include "server/engine/check_values.h"
#include "server/engine/flash.h"
#include "server/engine/naive.h"
#include "server/engine/sweep.h"

namespace headlight {
namespace {

// What sinks do when all rows are done.
class FinishSinks final : public Phase {
 public:
  explicit FinishSinks(const std::vector<ScoreSink*>& sinks) : Phase(Stage::kMaps), sinks_(sinks) {}

  std::int64_t Begin() override {
    std::int64_t tasks = 0;
    for (const ScoreSink* sink : sinks_) tasks += sink->finish_tasks();
    return tasks;
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& /*lane*/) override {
    for (ScoreSink* sink : sinks_) {
      if (task < sink->finish_tasks()) return sink->Finish(task, step);
      task -= sink->finish_tasks();
    }
    return false;
  }

 private:
  const std::vector<ScoreSink*>& sinks_;
};

HeadsTarget TargetIn(OwnedTensor& tensor, HeadLayout layout, const Dimensions& d) {
  return {ViewHeads(tensor.kind, reinterpret_cast<const std::byte*>(tensor.bytes.data()), layout, d.query_heads,
                    d.query_tokens, d.value_head_size)};
}

}  // namespace

AttentionWork::AttentionWork(const ExecutionPlan& plan, const AttentionData& data, MemoryAccount& account,
                             MatmulCache& matmuls, std::vector<ScoreSink*> sinks, absl::Time accepted)
    : PhasedWork(account, plan.bytes.scratch_per_lane / static_cast<std::int64_t>(sizeof(float)), accepted),
      call_{.plan = plan,
            .data = data,
            .account = account,
            .matmuls = matmuls,
            .sinks = std::move(sinks),
            .rules = MaskRules(plan.spec, data.mask)} {}

void AttentionWork::Build() {
  const ProblemSpec& spec = call_.spec();
  const Dimensions& d = spec.dims;
  const bool projects_output = spec.projection.has_value() && spec.projection->output_width > 0;
  Add(MakeValueCheck(spec, call_.data));
  if (spec.projection.has_value()) AddProjection(call_, projection_, *this);
  AddPacking(call_, packed_, *this);
  if (spec.position.kind == PositionKind::kAlibi) Add(MakeAlibiBases(call_));
  if (spec.outputs.output) call_.output = MakeTensor(spec.outputs.kind, spec.OutputShape());
  if (spec.outputs.output && projects_output) {
    const std::int64_t floats = d.batch * d.query_tokens * d.query_heads * d.value_head_size;
    projection_.concat = FloatBuffer(call_.account, MemoryUse::kProjection, floats);
    call_.targets.push_back(
        {ViewFloats(projection_.concat, HeadLayout::kTokenMajor, d.query_heads, d.query_tokens, d.value_head_size)});
  } else if (spec.outputs.output) {
    call_.targets.push_back(TargetIn(call_.output, spec.layout, d));
  }
  if (spec.outputs.head_outputs) {
    call_.head_outputs = MakeTensor(spec.outputs.kind, {d.batch, d.query_heads, d.query_tokens, d.value_head_size});
    call_.targets.push_back(TargetIn(call_.head_outputs, HeadLayout::kHeadMajor, d));
  }
  if (spec.outputs.log_sum_exp) {
    call_.log_sum_exp = MakeTensor(TensorKind::kF32, {d.batch, d.query_heads, d.query_tokens});
  }
  if (spec.outputs.SweepsWeights()) {
    call_.norms = Buffer<RowNorm>(call_.account, MemoryUse::kScratch, d.batch * d.query_heads * d.query_tokens);
  }
  for (ScoreSink* sink : call_.sinks) sink->Begin();
  Add(call_.plan.algorithm == Algorithm::kNaive ? MakeNaive(call_) : MakeFlash(call_));
  if (spec.outputs.output && projects_output) AddOutputProjection(call_, projection_, *this);
  Add(MakeSweeps(call_));
  Add(std::make_unique<FinishSinks>(call_.sinks));
}

AttentionResult AttentionWork::TakeResult() {
  return {std::move(call_.output), std::move(call_.log_sum_exp), std::move(call_.head_outputs)};
}

ExecutionRecord AttentionWork::Record() const {
  const MemoryAccount& account = call_.account;
  return {call_.plan.algorithm,
          times(),
          seconds(),
          lanes(),
          account.peak(MemoryUse::kScratch),
          account.peak(MemoryUse::kPacked),
          account.peak(MemoryUse::kProjection),
          account.peak()};
}

}  // namespace headlight
