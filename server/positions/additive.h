// The schemes that add: sinusoids and learned tables to embeddings, ALiBi to scores.
#ifndef HEADLIGHT_SERVER_POSITIONS_ADDITIVE_H_
#define HEADLIGHT_SERVER_POSITIONS_ADDITIVE_H_

#include <cstdint>

#include "server/base/tensor.h"
#include "server/problem/spec.h"

namespace headlight {

// Adds positions first, first + 1, ... to the rows of x. For sinusoids ("Attention Is All You Need", section 3.5)
// `table` is not looked at; for a learned scheme it is [positions, width], and every position lies within it.
void AddPositions(const PositionSpec& spec, const TensorView& table, std::int64_t first, Matrix<float> x);

// ALiBi (arXiv 2108.12409): subtracts slope[head] x |query position - key position| from the scores of a tile.
// `rows` and `keys` are token indices; `scores` has their sizes.
void AddAlibi(const PositionSpec& spec, std::int64_t head, Range rows, Range keys, Matrix<float> scores);

// The same for n scores of one row where positions are given one by one.
void AddAlibiRow(float slope, std::int64_t query_position, const std::int64_t* key_positions, std::int64_t n,
                 float* scores);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_POSITIONS_ADDITIVE_H_
