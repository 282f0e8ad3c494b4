// What a row may see: causal masks, key lengths and mask tensors, as one set of rules that hold together. The planner
// and the engine know masks by this alone. Key j is seen by row i of batch b and query head h exactly if
//   j < KeyLength(b),  j <= i + causal offset(b),  the tensor has the key and says true or a number above -inf.
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

  // By the rules alone; a mask tensor makes every tile that is not empty partial.
  Verdict Judge(const Tile& tile) const;

  // For a partial tile: adds the tensor's numbers and puts -inf where a pair may not attend. `scores` has the tile's
  // rows and keys. False: a finite score and a finite number add up to infinity.
  [[nodiscard]] bool Apply(const Tile& tile, Matrix<float> scores) const;

  // The additive part of one pair in double; -inf where it may not attend.
  double Bias(std::int64_t batch, std::int64_t head, std::int64_t row, std::int64_t key) const;

  // Pairs that the rules let attend, summed over batches, for one query head. Tensors are not looked into.
  std::int64_t VisiblePairs() const;

 private:
  // Keys that row `row` of `batch` may see by the rules: [0, this).
  std::int64_t KeyEnd(std::int64_t batch, std::int64_t row) const;
  // Element offset of the tensor's row for (batch, head, row).
  std::int64_t TensorRow(std::int64_t batch, std::int64_t head, std::int64_t row) const;

  Dimensions dims_;
  MaskSpec mask_;
  TensorView tensor_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MASKS_RULES_H_
