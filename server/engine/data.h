// The data of a call, bound to what the check found sane: borrowed views, alive until the call ends.
#ifndef HEADLIGHT_SERVER_ENGINE_DATA_H_
#define HEADLIGHT_SERVER_ENGINE_DATA_H_

#include <cstdint>

#include "server/base/memory.h"
#include "server/base/tensor.h"
#include "server/problem/spec.h"

namespace headlight {

// Either Q, K, V, or embeddings and a layer; empty where seeded.
struct AttentionData {
  TensorView query, key, value;
  TensorView embeddings, context;
  LayerViews layer;
  TensorView mask;
  TensorView position_table;
};

// Heads in memory: row t of head h of batch b lies at b, h, t times their strides (in elements).
struct HeadsView {
  TensorKind kind = TensorKind::kF32;
  const std::byte* data = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t token_stride = 0;

  const std::byte* At(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return data + (b * batch_stride + h * head_stride + t * token_stride) * WidthOf(kind);
  }
  // REQUIRES: kind is F32.
  const float* FloatsAt(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return reinterpret_cast<const float*>(At(b, h, t));
  }
};

// [B, H, T, size] or [B, T, H * size] at `data`.
inline HeadsView ViewHeads(TensorKind kind, const std::byte* data, HeadLayout layout, std::int64_t heads,
                           std::int64_t tokens, std::int64_t size) {
  if (layout == HeadLayout::kHeadMajor) return {kind, data, heads * tokens * size, tokens * size, size};
  return {kind, data, heads * tokens * size, size, heads * size};
}

inline HeadsView ViewFloats(const FloatBuffer& buffer, HeadLayout layout, std::int64_t heads, std::int64_t tokens,
                            std::int64_t size) {
  return ViewHeads(TensorKind::kF32, reinterpret_cast<const std::byte*>(buffer.data()), layout, heads, tokens, size);
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_DATA_H_
