#include "server/layers/check_layer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

// A count from the metadata; 0 where it has none.
std::int64_t CountIn(const Safetensors& file, absl::string_view name, Violations& violations) {
  const auto found = file.metadata.find(absl::StrCat("headlight.", name));
  std::int64_t count = 0;
  if (found == file.metadata.end()) return 0;
  if (absl::SimpleAtoi(found->second, &count) && count > 0) return count;
  violations.Add(absl::StrCat("header.__metadata__[\"headlight.", name, "\"]"), found->second, "a number from 1");
  return 0;
}

// Reports a shape that is not what it must be.
class ShapeCheck {
 public:
  ShapeCheck(const LayerRecipe& layer, Violations& violations) : layer_(layer), violations_(violations) {}

  void Rows(LayerField field, std::int64_t rows, absl::string_view why) {
    if (!layer_[field].empty() && layer_[field].rows() != rows) Report(field, absl::StrCat(rows, " rows, ", why));
  }
  void Bias(LayerField bias, LayerField matrix) {
    if (layer_[bias].empty()) return;
    if (layer_[matrix].empty()) return Report(bias, absl::StrCat("no bias, without ", NameOf(matrix)));
    const std::int64_t width = layer_[matrix].columns();
    if (layer_[bias].columns() != width) Report(bias, absl::StrCat("as wide as ", NameOf(matrix), ", ", width));
  }
  void AtMost(LayerField field, std::int64_t rows, std::int64_t columns) {
    const TensorSource& source = layer_[field];
    if (source.empty()) return;
    if (source.rows() > rows || source.columns() > columns) {
      Report(field, absl::StrCat("at most ", rows, " rows of ", columns));
    }
  }
  // What is made of the tensor, in the contract's [in, out].
  void Report(LayerField field, std::string expected) {
    const TensorSource& source = layer_[field];
    violations_.Add(TensorPath(source.tensor, ".shape"),
                    absl::StrCat(NameOf(field), " of shape ", ToString(source.shape)), std::move(expected));
  }

 private:
  const LayerRecipe& layer_;
  Violations& violations_;
};

void CheckWidths(const LayerRecipe& layer, const Limits& limits, ShapeCheck& check) {
  const std::int64_t widest = limits.max_heads * limits.max_head_size;
  for (const LayerField field : {LayerField::kQuery, LayerField::kKey, LayerField::kValue}) {
    check.AtMost(field, limits.max_width, widest);
  }
  check.AtMost(LayerField::kOutput, widest, limits.max_width);
  check.Rows(LayerField::kValue, layer[LayerField::kKey].rows(), "as many as the key has");
  check.Bias(LayerField::kQueryBias, LayerField::kQuery);
  check.Bias(LayerField::kKeyBias, LayerField::kKey);
  check.Bias(LayerField::kValueBias, LayerField::kValue);
  check.Bias(LayerField::kOutputBias, LayerField::kOutput);
}

// Without heads: whether there are any that fit.
void CheckRatio(const LayerRecipe& layer, ShapeCheck& check) {
  const std::int64_t query = layer[LayerField::kQuery].columns();
  const std::int64_t key = layer[LayerField::kKey].columns();
  const std::int64_t value = layer[LayerField::kValue].columns();
  if (query % key != 0)
    return check.Report(LayerField::kKey, absl::StrCat("a width that divides the query's, ", query));
  check.Rows(LayerField::kOutput, query / key * value, "as wide as the values of all query heads");
}

void CheckHeads(LayerRecipe& layer, const Limits& limits, ShapeCheck& check) {
  const std::int64_t heads = layer.query_heads;
  const std::int64_t query = layer[LayerField::kQuery].columns();
  const std::int64_t key = layer[LayerField::kKey].columns();
  const std::int64_t value = layer[LayerField::kValue].columns();
  const auto fits = [&limits](std::int64_t width, std::int64_t count) {
    return width % count == 0 && width / count <= limits.max_head_size;
  };
  if (!fits(query, heads)) {
    return check.Report(LayerField::kQuery,
                        absl::StrCat("a width of ", heads, " heads of at most ", limits.max_head_size));
  }
  const std::int64_t size = query / heads;
  if (layer.key_value_heads == 0) layer.key_value_heads = std::max<std::int64_t>(key / size, 1);
  const std::int64_t groups = layer.key_value_heads;
  if (key != groups * size || heads % groups != 0) {
    return check.Report(LayerField::kKey, absl::StrCat("heads of ", size, ", as many as divide the ", heads,
                                                       " query heads, or as are given"));
  }
  if (!fits(value, groups)) {
    return check.Report(LayerField::kValue,
                        absl::StrCat("a width of ", groups, " heads of at most ", limits.max_head_size));
  }
  check.Rows(LayerField::kOutput, value / groups * heads, "query heads x value head size");
}

}  // namespace

HeadCounts HeadsOf(const Safetensors& file, const FileHints& hints, const Limits& limits, Violations& violations) {
  HeadCounts heads{CountIn(file, "query_heads", violations), CountIn(file, "key_value_heads", violations)};
  // One source for both: a count of one and of the other need not fit.
  if (hints.query_heads != 0 || hints.key_value_heads != 0) {
    heads = {hints.query_heads, hints.key_value_heads};
  } else if (heads.query == 0 && heads.key_value == 0) {
    heads = {hints.fallback_query_heads, hints.fallback_key_value_heads};
  }
  if (heads.query == 0 && heads.key_value != 0) {
    violations.Add("header.query_heads", "0", "the number of query heads, where that of key/value heads is given");
  }
  if (heads.query < 0 || heads.query > limits.max_heads) {
    violations.Add("header.query_heads", absl::StrCat(heads.query), absl::StrCat("at most ", limits.max_heads));
  }
  if (heads.key_value < 0 || heads.key_value > heads.query) {
    violations.Add("header.key_value_heads", absl::StrCat(heads.key_value), absl::StrCat("at most ", heads.query));
  }
  return heads;
}

TensorSource SourceOfTensor(const Safetensors& file, const std::string& name, const Wanted& wanted,
                            Violations& violations) {
  const auto found = file.tensors.find(name);
  if (found == file.tensors.end()) {
    if (wanted.required) violations.Add(TensorPath(name), "no such tensor", "one, as the layer's others have it");
    return {};
  }
  const StoredTensor& stored = found->second;
  if (!stored.kind.has_value()) {
    violations.Add(TensorPath(name, ".dtype"), stored.dtype, "F32, F16 or BF16");
    return {};
  }
  if (stored.shape.size() != wanted.rank || stored.bytes.empty()) {
    violations.Add(TensorPath(name, ".shape"), ToString(stored.shape),
                   absl::StrCat("rank ", wanted.rank, ", not empty"));
    return {};
  }
  TensorSource source{name, *stored.kind, stored.bytes, stored.shape, stored.shape};
  if (wanted.rank == 2) source.row_stride = stored.shape[1];
  if (wanted.transposed) {
    std::swap(source.shape[0], source.shape[1]);
    std::swap(source.row_stride, source.column_stride);
  }
  return source;
}

void CheckLayer(LayerRecipe& layer, const Limits& limits, Violations& violations) {
  for (const LayerField field : {LayerField::kQuery, LayerField::kKey, LayerField::kValue}) {
    if (layer[field].empty()) return;  // reported already
  }
  ShapeCheck check(layer, violations);
  CheckWidths(layer, limits, check);
  layer.query_heads == 0 ? CheckRatio(layer, check) : CheckHeads(layer, limits, check);
}

}  // namespace headlight
