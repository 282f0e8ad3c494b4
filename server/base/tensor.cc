#include "server/base/tensor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace headlight {

absl::string_view NameOf(TensorKind kind) {
  switch (kind) {
    case TensorKind::kF32: return "f32";
    case TensorKind::kF16: return "f16";
    case TensorKind::kBF16: return "bf16";
    case TensorKind::kBool: return "bool";
  }
  return "?";
}

std::optional<std::int64_t> ElementCount(const Shape& shape) {
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  std::int64_t count = 1;
  bool overflow = false;
  if (std::any_of(shape.begin(), shape.end(), [](std::int64_t size) { return size < 0; })) return std::nullopt;
  for (const std::int64_t size : shape) {
    if (size == 0) return 0;
    overflow = overflow || count > kMost / size;
    if (!overflow) count *= size;
  }
  if (overflow) return std::nullopt;
  return count;
}

std::string ToString(const Shape& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

Shape UnflattenIndex(std::int64_t flat, const Shape& shape) {
  Shape index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    index[axis] = flat % shape[axis];
    flat /= shape[axis];
  }
  return index;
}

OwnedTensor MakeTensor(TensorKind kind, Shape shape) {
  OwnedTensor tensor;
  tensor.kind = kind;
  tensor.bytes.resize(static_cast<std::size_t>(ElementCount(shape).value_or(0) * WidthOf(kind)));
  tensor.shape = std::move(shape);
  return tensor;
}

}  // namespace headlight
