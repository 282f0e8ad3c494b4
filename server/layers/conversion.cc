#include "server/layers/conversion.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"
#include "server/base/half.h"
#include "server/layers/safetensors.h"
#include "server/layers/stack_recipe.h"

namespace headlight {
namespace {

// About half a millisecond.
constexpr std::int64_t kStepElements = std::int64_t{1} << 16;
// Rows that are read together where the file has them as columns: a line of the cache.
constexpr std::int64_t kTurnedRows = 16;

float ElementAt(const TensorSource& source, std::int64_t index) {
  const char* at = source.bytes.data() + index * WidthOf(source.kind);
  if (source.kind == TensorKind::kF32) {
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  return source.kind == TensorKind::kF16 ? FloatFromF16(bits) : FloatFromBF16(bits);
}

// Rows of a step.
std::int64_t RowsAtOnce(const TensorSource& source) {
  const std::int64_t rows = std::max<std::int64_t>(kStepElements / source.columns(), 1);
  return source.column_stride == 1 ? rows : RoundUp(rows, kTurnedRows);
}

// Columns of a step: all, unless a single row is long.
std::int64_t ColumnsAtOnce(const TensorSource& source) {
  return std::min(source.columns(), kStepElements / (source.column_stride == 1 ? 1 : kTurnedRows));
}

// A block of what is made; returns the first index in the file whose number is not finite, or -1.
std::int64_t Convert(const TensorSource& source, std::int64_t row, std::int64_t column, float* made) {
  const std::int64_t rows = std::min(source.rows(), row + RowsAtOnce(source));
  const std::int64_t columns = std::min(source.columns(), column + ColumnsAtOnce(source));
  std::int64_t bad = -1;
  const auto convert = [&](std::int64_t r, std::int64_t c) {
    const std::int64_t index = source.offset + r * source.row_stride + c * source.column_stride;
    const float value = ElementAt(source, index);
    made[r * source.columns() + c] = value;
    if (!std::isfinite(value)) bad = bad < 0 ? index : std::min(bad, index);
  };
  if (source.column_stride == 1) {
    for (std::int64_t r = row; r < rows; ++r) {
      for (std::int64_t c = column; c < columns; ++c) convert(r, c);
    }
    return bad;
  }
  for (std::int64_t block = row; block < rows; block += kTurnedRows) {
    for (std::int64_t c = column; c < columns; ++c) {
      for (std::int64_t r = block; r < std::min(rows, block + kTurnedRows); ++r) convert(r, c);
    }
  }
  return bad;
}

}  // namespace

Conversion::Conversion(FileRecipe recipe) : recipe_(std::move(recipe)) {
  for (const TensorSource* source : SourcesOf(recipe_)) parts_.push_back({*source, {}});
}

bool Conversion::Step(std::int64_t task, std::int64_t step) {
  Part& part = parts_[static_cast<std::size_t>(task)];
  const TensorSource& source = part.source;
  if (step == 0) part.made = MakeTensor(TensorKind::kF32, source.shape);
  const std::int64_t across = CeilDiv(source.columns(), ColumnsAtOnce(source));
  const std::int64_t row = step / across * RowsAtOnce(source);
  const std::int64_t bad = Convert(source, row, step % across * ColumnsAtOnce(source), part.made.floats());
  if (bad >= 0) part.bad = part.bad < 0 ? bad : std::min(part.bad, bad);
  return step + 1 < across * CeilDiv(source.rows(), RowsAtOnce(source));
}

void Conversion::RunAll() {
  for (std::int64_t task = 0; task < tasks(); ++task) {
    for (std::int64_t step = 0; Step(task, step); ++step) {
    }
  }
}

absl::Status Conversion::Check() const {
  Violations violations;
  for (const Part& part : parts_) {
    if (part.bad < 0) continue;
    violations.Add(
        TensorPath(part.source.tensor),
        absl::StrCat(ElementAt(part.source, part.bad), " at ", ToString(UnflattenIndex(part.bad, part.source.stored))),
        "finite numbers");
  }
  return violations.ToStatus();
}

OwnedTensor Conversion::TakePart(const TensorSource& source) {
  return source.empty() ? OwnedTensor() : std::move(parts_[next_++].made);
}

LayerFile Conversion::Take(const std::string& name, const std::string& id, LayerOrigin origin,
                           const std::shared_ptr<void>& holds) {
  LayerFile file{name, id, origin, {}, nullptr, recipe_.bytes};
  const bool numbered = recipe_.layers.size() > 1;
  for (const LayerRecipe& recipe : recipe_.layers) {
    const std::string suffix = numbered ? absl::StrCat("/", *recipe.number) : "";
    LayerFacts facts{name + suffix, id + suffix, recipe_.scheme, recipe[LayerField::kQuery].kind, {}, origin};
    LayerMatrices matrices;
    for (int i = 0; i < kLayerFields; ++i) {
      const auto field = static_cast<LayerField>(i);
      if (!recipe[field].empty()) facts.tensors[std::string(NameOf(field))] = recipe[field].tensor;
      FieldOf(matrices, field) = TakePart(recipe[field]);
    }
    file.layers.emplace_back(
        new Layer(std::move(facts), recipe.query_heads, recipe.key_value_heads, std::move(matrices)),
        [holds](const Layer* layer) { delete layer; });
  }
  if (!recipe_.stack.has_value()) return file;
  StackRecipe& from = *recipe_.stack;
  auto stack = std::shared_ptr<Stack>(new Stack(), [holds](const Stack* made) { delete made; });
  stack->name = name;
  stack->id = id;
  stack->origin = origin;
  stack->description = std::move(from.description);
  stack->layers = file.layers;
  stack->norm_epsilon = from.norm_epsilon;
  stack->causal = from.causal;
  stack->vocabulary = std::move(from.vocabulary);
  // In the order of SourcesOf.
  stack->token_embedding = TakePart(from.token_embedding);
  stack->position_embedding = TakePart(from.position_embedding);
  stack->unembedding = TakePart(from.unembedding);
  stack->unembedding_bias = TakePart(from.unembedding_bias);
  stack->final_norm.weight = TakePart(from.final_norm.weight);
  stack->final_norm.bias = TakePart(from.final_norm.bias);
  for (const NormRecipe& norm : from.norms) {
    NormWeights weights;
    weights.weight = TakePart(norm.weight);
    weights.bias = TakePart(norm.bias);
    stack->norms.push_back(std::move(weights));
  }
  file.stack = std::move(stack);
  return file;
}

std::int64_t BytesOf(const Stack& stack) {
  std::size_t bytes = 0;
  for (const OwnedTensor* tensor : {&stack.token_embedding, &stack.position_embedding, &stack.unembedding,
                                    &stack.unembedding_bias, &stack.final_norm.weight, &stack.final_norm.bias}) {
    bytes += tensor->bytes.size();
  }
  for (const NormWeights& norm : stack.norms) bytes += norm.weight.bytes.size() + norm.bias.bytes.size();
  return static_cast<std::int64_t>(bytes);
}

}  // namespace headlight
