#include "server/engine/head_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "server/engine/alibi.h"
#include "server/engine/check_values.h"
#include "server/engine/prepare.h"
#include "server/engine/tiles.h"
#include "server/engine/value_lengths.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
// Scores that one unit turns into weights.
constexpr std::int64_t kUnitScores = std::int64_t{1} << 18;

}  // namespace

struct HeadRowsWork::State {
  const HeadRowsPlan& plan;
  HeadRowsSink& sink;
  CallState call;
  Projection projection = {};
  Packed packed = {};
  FloatBuffer value_lengths = {};

  void GiveBack() {
    projection = {};
    packed = {};
    value_lengths = {};
    call.norms = {};
    call.alibi_bases = {};
    call.query_rotary = {};
    call.key_rotary = {};
  }
};

namespace {

// A task is a chain: blocks of rows, each head after head as naive does it, and then the sink's steps.
template <typename State>
class Rows final : public Phase {
 public:
  explicit Rows(State& state)
      : Phase(Stage::kAttend), state_(state), call_(state.call), height_(state.plan.rows), stride_(state.plan.stride) {}

  std::int64_t Begin() override {
    const Dimensions& d = call_.dims();
    call_.norms = Buffer<RowNorm>(call_.account, MemoryUse::kScratch, d.query_heads * d.query_tokens);
    const std::int64_t group = d.query_heads / d.key_value_heads;
    group_ = std::clamp<std::int64_t>(call_.plan.tile.query_rows / height_, 1, group);
    stacks_ = CeilDiv(group, group_) * d.key_value_heads;
    chains_.resize(static_cast<std::size_t>(state_.plan.chains));
    for (std::size_t c = 0; c < chains_.size(); ++c) chains_[c].block = static_cast<std::int64_t>(c);
    state_.sink.Begin(state_.plan.chains);
    return state_.plan.chains;
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t /*step*/, Lane& lane) override {
    Chain& chain = chains_[static_cast<std::size_t>(task)];
    const std::int64_t first = chain.block * height_;
    const Range rows{first, std::min(first + height_, call_.dims().query_tokens)};
    Range keys = call_.rules.VisibleKeys(0, rows);
    keys.begin = keys.begin / kTailKeys * kTailKeys;
    bool more = false;
    if (keys.size() > 0) {
      const Unit unit{rows, keys, lane};
      const std::int64_t steps = StepsOfStack(unit);
      const std::int64_t stack = chain.step / steps;
      if (stack < stacks_) {
        if (absl::Status status = RunStack(unit, stack, chain.step % steps); !status.ok()) return status;
        more = true;
      } else {
        absl::StatusOr<bool> sink = state_.sink.OnRows(task, Shown(unit), chain.step - stacks_ * steps);
        if (!sink.ok()) return sink.status();
        more = *sink;
      }
    }
    ++chain.step;
    if (more) return true;
    chain.step = 0;
    chain.block += state_.plan.chains;
    return chain.block * height_ < call_.dims().query_tokens;
  }

  absl::Status End() override {
    state_.sink.End();
    state_.GiveBack();
    return absl::OkStatus();
  }

 private:
  struct Chain {
    std::int64_t block = 0;
    std::int64_t step = 0;  // within the block
  };
  struct Unit {
    Range rows, keys;
    Lane& lane;
  };

  float* Weights(const Unit& unit, std::int64_t head, std::int64_t r) const {
    return unit.lane.scratch + state_.plan.tile_floats + (head * unit.rows.size() + r) * stride_;
  }
  RowEnd* Ends(Lane& lane) const {
    const std::int64_t floats = state_.plan.tile_floats + call_.dims().query_heads * height_ * stride_;
    return reinterpret_cast<RowEnd*>(lane.scratch + floats);
  }
  HeadRows Shown(const Unit& unit) const {
    const Dimensions& d = call_.dims();
    return {
        d.query_heads, unit.rows, unit.keys, Weights(unit, 0, 0), stride_, Ends(unit.lane), state_.value_lengths.data(),
        d.key_tokens};
  }

  std::int64_t Spans(const Unit& unit) const { return CeilDiv(unit.keys.size(), call_.plan.tile.keys); }
  // Rows of a stack that one step turns into weights.
  std::int64_t RowsOfStep(const Unit& unit) const { return std::max<std::int64_t>(kUnitScores / unit.keys.size(), 1); }
  std::int64_t Groups(const Unit& unit) const { return CeilDiv(group_ * unit.rows.size(), RowsOfStep(unit)); }
  std::int64_t StepsOfStack(const Unit& unit) const { return Spans(unit) + 2 * Groups(unit); }

  QueryBlock BlockOf(const Unit& unit, std::int64_t stack) const {
    const Dimensions& d = call_.dims();
    const std::int64_t per_key_head = stacks_ / d.key_value_heads;
    QueryBlock block;
    block.heads_per_group = d.query_heads / d.key_value_heads;
    block.key_value_head = stack / per_key_head;
    block.first_in_group = stack % per_key_head * group_;
    block.group = std::min(group_, block.heads_per_group - block.first_in_group);
    block.rows = unit.rows;
    block.keys = unit.keys;
    return block;
  }

  // Heads that share key, value and tile: tiles of scores, exponentials of groups of rows, and the same by their sums.
  absl::Status RunStack(const Unit& unit, std::int64_t stack, std::int64_t step) {
    const QueryBlock block = BlockOf(unit, stack);
    Tiles tiles(call_, unit.lane);
    if (step == 0) tiles.Start(block);
    if (step < Spans(unit)) return ScoreSpan(unit, block, step, tiles);
    step -= Spans(unit);
    const bool scales = step >= Groups(unit);
    if (step == Groups(unit)) {
      for (std::int64_t piece = 0; piece < tiles.FinishPieces(block); ++piece) {
        if (absl::Status status = tiles.Finish(block, piece); !status.ok()) return status;
      }
    }
    if (scales) step -= Groups(unit);
    const std::int64_t begin = step * RowsOfStep(unit);
    const std::int64_t end = std::min(begin + RowsOfStep(unit), block.parts() * unit.rows.size());
    for (std::int64_t i = begin; i < end; ++i) {
      const TilePart part = block.Part(i / unit.rows.size());
      const std::int64_t r = i % unit.rows.size();
      scales ? Scale(unit, part.head, r, tiles.sums()[part.tile_row + r]) : Exponentiate(unit, part, r, tiles);
    }
    return absl::OkStatus();
  }

  absl::Status ScoreSpan(const Unit& unit, const QueryBlock& block, std::int64_t span, Tiles& tiles) {
    const std::int64_t begin = unit.keys.begin + span * call_.plan.tile.keys;
    const Range keys{begin, std::min(begin + call_.plan.tile.keys, unit.keys.end)};
    const absl::StatusOr<bool> any = tiles.Score(block, keys);
    if (!any.ok()) return any.status();
    for (std::int64_t i = 0; i < block.parts() * unit.rows.size(); ++i) {
      const TilePart part = block.Part(i / unit.rows.size());
      const std::int64_t r = i % unit.rows.size();
      float* out = Weights(unit, part.head, r) + keys.begin;
      if (*any) {
        std::copy_n(tiles.scores().Row(part.tile_row + r), keys.size(), out);
      } else {
        std::fill_n(out, keys.size(), kNothing);
      }
    }
    return absl::OkStatus();
  }

  void Exponentiate(const Unit& unit, const TilePart& part, std::int64_t r, Tiles& tiles) {
    float* row = Weights(unit, part.head, r) + unit.keys.begin;
    const std::int64_t n = unit.keys.size();
    Ends(unit.lane)[part.head * unit.rows.size() + r].keys =
        static_cast<std::int32_t>(n - std::count(row, row + n, kNothing));
    const float largest = RowMax(row, n);
    tiles.largest()[part.tile_row + r] = largest;
    if (largest == kNothing) {
      std::fill_n(row, n, 0.0F);
    } else {
      tiles.sums()[part.tile_row + r] = ExpAndSum(row, n, largest);
    }
  }

  void Scale(const Unit& unit, std::int64_t head, std::int64_t r, float sum) {
    float* row = Weights(unit, head, r) + unit.keys.begin;
    RowEnd& end = Ends(unit.lane)[head * unit.rows.size() + r];
    const float factor = call_.norms.data()[head * call_.dims().query_tokens + unit.rows.begin + r].factor;
    end.sum = end.keys == 0 ? 0 : sum * factor;
    if (std::isnan(factor)) {
      // The key that made it so no longer counts among those it sees.
      end = {std::max(end.keys, 1), factor};
      std::fill_n(row, unit.keys.size(), factor);
    } else {
      ScaleRow(row, unit.keys.size(), factor);
    }
  }

  State& state_;
  CallState& call_;
  const std::int64_t height_, stride_;
  std::int64_t group_ = 1;   // query heads of one key/value head that share a tile
  std::int64_t stacks_ = 1;  // such groups, of all heads
  std::vector<Chain> chains_;
};

}  // namespace

HeadRowsWork::HeadRowsWork(const HeadRowsPlan& plan, const AttentionData& data, MemoryAccount& account,
                           MatmulCache& matmuls, HeadRowsSink& sink, absl::Time accepted)
    : PhasedWork(account, plan.plan.bytes.scratch_per_lane / static_cast<std::int64_t>(sizeof(float)), accepted),
      state_(new State{plan,
                       sink,
                       {.plan = plan.plan,
                        .data = data,
                        .account = account,
                        .matmuls = matmuls,
                        .sinks = {},
                        .rules = MaskRules(plan.plan.spec, data.mask)}}) {}

HeadRowsWork::~HeadRowsWork() = default;

void HeadRowsWork::Build() {
  State& s = *state_;
  const Dimensions& d = s.call.dims();
  Add(MakeValueCheck(s.call.spec(), s.call.data));
  AddProjection(s.call, s.projection, *this);
  s.value_lengths = FloatBuffer(s.call.account, MemoryUse::kProjection, d.query_heads * d.key_tokens);
  Add(MakeValueLengths(s.call, s.projection, s.value_lengths.data()));
  AddPacking(s.call, s.packed, *this);
  if (s.call.spec().position.kind == PositionKind::kAlibi) Add(MakeAlibiBases(s.call));
  Add(std::make_unique<Rows<State>>(s));
}

}  // namespace headlight
