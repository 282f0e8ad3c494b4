#include "server/engine/alibi.h"

#include <algorithm>
#include <cstdlib>

#include "server/base/memory.h"

namespace headlight {
namespace {

// About half a millisecond of looking on one core of the machines this is meant for.
constexpr std::int64_t kUnitKeys = std::int64_t{1} << 15;
constexpr std::int64_t kUnitRows = std::int64_t{1} << 13;

class AlibiBases final : public Phase {
 public:
  explicit AlibiBases(CallState& call) : Phase(Stage::kProject), call_(call) {
    const PositionSpec& spec = call.spec().position;
    const bool looks = !spec.key_positions.empty() || !call.rules.AreRanges();
    height_ = looks ? std::max<std::int64_t>(1, kUnitKeys / call.dims().key_tokens) : kUnitRows;
  }

  std::int64_t Begin() override {
    call_.alibi_bases = Buffer<std::int64_t>(call_.account, MemoryUse::kPacked, rows());
    return CeilDiv(rows(), height_);
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t /*step*/, Lane& /*lane*/) override {
    const Dimensions& d = call_.dims();
    const std::int64_t end = std::min((task + 1) * height_, rows());
    for (std::int64_t i = task * height_; i < end; ++i) {
      const std::int64_t head = i / d.query_tokens;
      call_.alibi_bases.data()[i] = BaseOf(head / d.query_heads, head % d.query_heads, i % d.query_tokens);
    }
    return false;
  }

 private:
  std::int64_t rows() const { return call_.dims().batch * call_.dims().query_heads * call_.dims().query_tokens; }

  std::int64_t BaseOf(std::int64_t batch, std::int64_t head, std::int64_t row) const {
    const PositionSpec& spec = call_.spec().position;
    const Range keys = call_.rules.VisibleKeys(batch, {row, row + 1});
    if (keys.size() <= 0) return 0;
    const std::int64_t position = spec.QueryAt(batch, row, call_.dims().query_tokens);
    const bool farthest = spec.slopes[static_cast<std::size_t>(head)] < 0;
    if (spec.key_positions.empty() && !farthest) {
      const std::int64_t nearest = std::clamp(position - spec.key_offset, keys.begin, keys.end - 1);
      for (std::int64_t i = 0; nearest - i >= keys.begin || nearest + i < keys.end; ++i) {
        for (const std::int64_t key : {nearest - i, nearest + i}) {
          if (key >= keys.begin && key < keys.end && call_.rules.Allows(batch, head, row, key)) {
            return Distance(batch, position, key);
          }
        }
      }
      return 0;
    }
    // Where a row's keys are a range, none of them is asked for; where they also stand in a row, its ends are enough.
    const bool ranges = call_.rules.AreRanges();
    const bool ends = ranges && spec.key_positions.empty();
    std::int64_t base = -1;
    for (std::int64_t key = keys.begin; key < keys.end; key += ends ? std::max<std::int64_t>(1, keys.size() - 1) : 1) {
      if (!ranges && !call_.rules.Allows(batch, head, row, key)) continue;
      const std::int64_t away = Distance(batch, position, key);
      if (base < 0 || (farthest ? away > base : away < base)) base = away;
    }
    return std::max<std::int64_t>(base, 0);
  }

  std::int64_t Distance(std::int64_t batch, std::int64_t position, std::int64_t key) const {
    return std::abs(position - call_.spec().position.KeyAt(batch, key, call_.dims().key_tokens));
  }

  CallState& call_;
  std::int64_t height_;  // rows of a task
};

}  // namespace

std::unique_ptr<Phase> MakeAlibiBases(CallState& call) { return std::make_unique<AlibiBases>(call); }

}  // namespace headlight
