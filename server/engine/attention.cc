#include "server/engine/attention.h"

#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "server/engine/alibi.h"
#include "server/engine/check_values.h"
#include "server/engine/flash.h"
#include "server/engine/naive.h"
#include "server/engine/sweep.h"
#include "server/engine/tiles.h"

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

HeadsTarget TargetIn(TensorKind kind, const std::byte* data, HeadLayout layout, const Dimensions& d) {
  return {ViewHeads(kind, data, layout, d.query_heads, d.query_tokens, d.value_head_size)};
}

std::byte* BytesOf(OwnedTensor& tensor) { return reinterpret_cast<std::byte*>(tensor.bytes.data()); }

// How many tiles attention and sweeps pass, for those who watch.
void CountTiles(const CallState& call) {
  std::int64_t tiles = 0;
  for (std::int64_t task = 0; task < QueryBlocks(call); ++task) {
    tiles += CeilDiv(QueryBlockOf(call, task).keys.size(), call.plan.tile.keys);
  }
  for (const ScoreSink* sink : call.sinks) {
    for (const Sweep& sweep : sink->Sweeps()) tiles += TilesOf(call, sweep);
  }
  call.watch->tiles->all.store(tiles, std::memory_order_relaxed);
}

}  // namespace

AttentionWork::AttentionWork(const ExecutionPlan& plan, const AttentionData& data, MemoryAccount& account,
                             MatmulCache& matmuls, std::vector<ScoreSink*> sinks, absl::Time accepted,
                             const Watch* watch)
    : PhasedWork(account, plan.bytes.scratch_per_lane / static_cast<std::int64_t>(sizeof(float)), accepted),
      call_{.plan = plan,
            .data = data,
            .account = account,
            .matmuls = matmuls,
            .sinks = std::move(sinks),
            .rules = MaskRules(plan.spec, data.mask),
            .watch = watch} {}

void AttentionWork::MakeRoom() {
  const OutputSpec& outputs = call_.spec().outputs;
  const Dimensions& d = call_.dims();
  if (outputs.output) {
    output_ = {outputs.kind, call_.spec().OutputShape(), nullptr};
    if (call_.watch == nullptr) result_.output = MakeTensor(outputs.kind, output_.shape);
    output_.data = call_.output = call_.watch != nullptr ? call_.watch->output : BytesOf(result_.output);
  }
  if (outputs.head_outputs && call_.watch == nullptr) {
    result_.head_outputs = MakeTensor(outputs.kind, {d.batch, d.query_heads, d.query_tokens, d.value_head_size});
  }
  if (outputs.log_sum_exp) {
    if (call_.watch == nullptr) {
      result_.log_sum_exp = MakeTensor(TensorKind::kF32, {d.batch, d.query_heads, d.query_tokens});
    }
    call_.log_sum_exp =
        reinterpret_cast<float*>(call_.watch != nullptr ? call_.watch->log_sum_exp : BytesOf(result_.log_sum_exp));
  }
}

void AttentionWork::Build() {
  const ProblemSpec& spec = call_.spec();
  const Dimensions& d = spec.dims;
  const bool projects_output = spec.projection.has_value() && spec.projection->output_width > 0;
  Add(MakeValueCheck(spec, call_.data));
  if (spec.projection.has_value()) AddProjection(call_, projection_, *this);
  AddPacking(call_, packed_, *this);
  if (spec.position.kind == PositionKind::kAlibi) Add(MakeAlibiBases(call_));
  MakeRoom();
  if (spec.outputs.output && projects_output) {
    const std::int64_t floats = d.batch * d.query_tokens * d.query_heads * d.value_head_size;
    projection_.concat = FloatBuffer(call_.account, MemoryUse::kProjection, floats);
    call_.targets.push_back(
        {ViewFloats(projection_.concat, HeadLayout::kTokenMajor, d.query_heads, d.query_tokens, d.value_head_size)});
  } else if (spec.outputs.output) {
    call_.targets.push_back(TargetIn(spec.outputs.kind, call_.output, spec.layout, d));
  }
  if (spec.outputs.head_outputs) {
    const std::byte* where = call_.watch != nullptr ? call_.watch->head_outputs : BytesOf(result_.head_outputs);
    call_.targets.push_back(TargetIn(spec.outputs.kind, where, HeadLayout::kHeadMajor, d));
  }
  if (spec.outputs.SweepsWeights()) {
    call_.norms = Buffer<RowNorm>(call_.account, MemoryUse::kScratch, d.batch * d.query_heads * d.query_tokens);
  }
  for (ScoreSink* sink : call_.sinks) sink->Begin();
  if (call_.watch != nullptr) CountTiles(call_);
  Add(call_.plan.algorithm == Algorithm::kNaive ? MakeNaive(call_) : MakeFlash(call_));
  if (spec.outputs.output && projects_output) AddOutputProjection(call_, projection_, *this);
  Add(MakeSweeps(call_));
  Add(std::make_unique<FinishSinks>(call_.sinks));
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
