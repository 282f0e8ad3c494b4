#include "server/engine/call.h"

#include "server/kernels/convert.h"

namespace headlight {

void CallState::MakeRow(const KeyValueRows& from, std::int64_t b, std::int64_t h, std::int64_t t, float* row,
                        std::byte* out) const {
  WidenRow(from.where.kind, from.where.At(b, h, t), row, from.size);
  if (from.turns) key_rotary.Turn(KeyRow(b, t), row);
  if (plan.bf16_products) {
    NarrowRow(TensorKind::kBF16, row, out, from.size);
  } else if (spec().precision == ComputePrecision::kBFloat16) {
    RoundRowToBF16(row, from.size);
  }
}

}  // namespace headlight
