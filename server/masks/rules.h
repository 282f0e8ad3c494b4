// What a row may see: causal and window masks, key lengths, segments and mask tensors, as one set of rules that hold
// together. The planner and the engine know masks by this alone. Key j is seen by row i of batch b and query head h
// exactly if, with p = i + offset(b),
//   j < KeyLength(b),  j <= p where causal,  p - left <= j <= p + right where a window bounds that side,
//   both have the same segment id,  the tensor has the key and says true or a number above -inf.
#ifndef HEADLIGHT_SERVER_MASKS_RULES_H_
#define HEADLIGHT_SERVER_MASKS_RULES_H_

#include <cstdint>

#include "server/base/tensor.h"
#include "server/problem/spec.h"

namespace headlight {

// What a tile holds: no pair that may attend, some, or nothing but.
enum class Verdict : std::uint8_t { kEmpty, kPartial, kFull };

// Rows x keys of one query head of one batch.
struct Tile {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  Range rows;
  Range keys;
};

// Immutable, thread-safe. The tensor's bytes, where there are any, outlive it.
class MaskRules {
 public:
  // `tensor` may be empty: then only what the rules say is known, which is enough to plan. Its values are checked
  // elsewhere (booleans 0 or 1, numbers neither NaN nor +inf).
  explicit MaskRules(const ProblemSpec& spec, TensorView tensor = {});

  // The smallest range that holds every key which the rules let any of the rows see; may be empty.
  Range VisibleKeys(std::int64_t batch, Range rows) const;

  // Whether a row's keys are one range, whatever the head: neither segments nor a tensor say more.
  bool AreRanges() const { return mask_.segments == nullptr && !mask_.tensor.has_value(); }
  // Keys that row `row` of `batch` may see by everything but segments and numbers; its ends never fall as rows go on.
  // Empty where begin >= end.
  Range RowKeys(std::int64_t batch, std::int64_t row) const;

  // By the rules alone; a mask tensor makes every tile that is not empty partial.
  Verdict Judge(const Tile& tile) const;

  // For a partial tile: adds the tensor's numbers and puts -inf where a pair may not attend. `scores` has the tile's
  // rows and keys. False: a finite score and a finite number add up to infinity.
  [[nodiscard]] bool Apply(const Tile& tile, Matrix<float> scores) const;

  // The additive part of one pair in double; -inf where it may not attend.
  double Bias(std::int64_t batch, std::int64_t head, std::int64_t row, std::int64_t key) const;

  // Whether the pair may attend.
  bool Allows(std::int64_t batch, std::int64_t head, std::int64_t row, std::int64_t key) const;

  // Pairs that the rules let attend, summed over batches, for one query head. Tensors are not looked into.
  std::int64_t VisiblePairs() const;

 private:
  std::int64_t QuerySegment(std::int64_t batch, std::int64_t row) const;
  std::int64_t KeySegment(std::int64_t batch, std::int64_t key) const;
  // Whether segments let none, some or all pairs of the tile attend; may say kPartial where it is none.
  Verdict JudgeSegments(const Tile& tile) const;
  // -inf at keys of another segment, for keys begin .. begin + n - 1.
  void ApplySegments(std::int64_t batch, std::int64_t row, Range keys, float* scores) const;
  // The tensor's numbers or truths on keys begin .. end - 1 of a row. As Apply.
  bool ApplyTensor(const Tile& tile, std::int64_t row, Range keys, float* scores) const;
  // VisiblePairs of one batch, where there are segments.
  std::int64_t PairsOfSegments(std::int64_t batch) const;
  // Element offset, in the tensor, of key 0 for (batch, head, row).
  std::int64_t TensorRow(std::int64_t batch, std::int64_t head, std::int64_t row) const;

  Dimensions dims_;
  MaskSpec mask_;
  TensorView tensor_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MASKS_RULES_H_
