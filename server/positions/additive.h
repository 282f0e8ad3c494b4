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

// ALiBi (arXiv 2108.12409): subtracts slope x (|query position - key position| - base) from the scores of a row, for n
// keys whose positions follow each other from `first_key`. With the base of a key that counts the difference keeps its
// digits however far all keys are; a base changes a row's scores by a constant, and its weights not at all.
void AddAlibi(float slope, std::int64_t query_position, std::int64_t first_key, std::int64_t n, std::int64_t base,
              float* scores);

// The same for n keys at positions of their own.
void AddAlibiAt(float slope, std::int64_t query_position, const std::int64_t* key_positions, std::int64_t n,
                std::int64_t base, float* scores);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_POSITIONS_ADDITIVE_H_
