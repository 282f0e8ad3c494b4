#include "server/layers/prune.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/errors.h"
#include "server/layers/safetensors.h"

namespace headlight {
namespace {

// The columns of the kept heads of a matrix or a bias.
OwnedTensor KeepColumns(const OwnedTensor& from, const std::vector<std::int64_t>& kept, std::int64_t heads) {
  if (from.empty()) return {};
  const std::int64_t width = from.shape.back(), size = width / heads;
  const std::int64_t rows = from.shape.size() == 2 ? from.shape[0] : 1;
  Shape shape = from.shape;
  shape.back() = static_cast<std::int64_t>(kept.size()) * size;
  OwnedTensor made = MakeTensor(TensorKind::kF32, shape);
  float* next = made.floats();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (const std::int64_t head : kept) next = std::copy_n(from.floats() + r * width + head * size, size, next);
  }
  return made;
}

// Likewise the rows, of the output.
OwnedTensor KeepRows(const OwnedTensor& from, const std::vector<std::int64_t>& kept, std::int64_t heads) {
  if (from.empty()) return {};
  const std::int64_t size = from.shape[0] / heads * from.shape[1];
  OwnedTensor made =
      MakeTensor(TensorKind::kF32, {from.shape[0] / heads * static_cast<std::int64_t>(kept.size()), from.shape[1]});
  float* next = made.floats();
  for (const std::int64_t head : kept) next = std::copy_n(from.floats() + head * size, size, next);
  return made;
}

// Fills in the counts of the old layer.
void CountHeads(const Layer& layer, std::int64_t query_heads, std::int64_t key_value_heads, PrunePlan& plan,
                Violations& violations) {
  const LayerMatrices& m = layer.matrices();
  const auto known = [&violations](absl::string_view field, std::int64_t said, std::int64_t of_layer) {
    if (of_layer != 0 && said != 0 && said != of_layer) {
      violations.Add(std::string(field), absl::StrCat(said), absl::StrCat(of_layer, ", as the layer says, or 0"));
    }
    return of_layer != 0 ? of_layer : said;
  };
  plan.query_heads = known("query_heads", query_heads, layer.query_heads());
  plan.key_value_heads = known("key_value_heads", key_value_heads, layer.key_value_heads());
  const std::int64_t width = m.query.shape[1];
  if (plan.query_heads <= 0 || plan.query_heads > width || width % plan.query_heads != 0) {
    violations.Add("query_heads", absl::StrCat(plan.query_heads),
                   absl::StrCat("a number of heads that divides the layer's query width, ", width));
    return;
  }
  const std::int64_t size = width / plan.query_heads, fit = m.key.shape[1] / size;
  if (plan.key_value_heads == 0) plan.key_value_heads = fit;
  if (fit * size != m.key.shape[1] || plan.key_value_heads != fit || plan.query_heads % fit != 0 ||
      m.value.shape[1] % fit != 0) {
    violations.Add("key_value_heads", absl::StrCat(plan.key_value_heads),
                   absl::StrCat("heads of size ", size, " that fill the layer's key width, ", m.key.shape[1]));
  }
}

void CheckHeads(const std::vector<std::int64_t>& heads, const PrunePlan& plan, Violations& violations) {
  const std::set<std::int64_t> different(heads.begin(), heads.end());
  if (heads.empty()) violations.Add("heads", "none", "at least one");
  if (different.size() != heads.size()) violations.Add("heads", "a head twice", "each head once");
  if (!heads.empty() && (*different.begin() < 0 || *different.rbegin() >= plan.query_heads)) {
    violations.Add("heads", absl::StrCat(*different.rbegin()), absl::StrCat("heads below ", plan.query_heads));
  } else if (static_cast<std::int64_t>(different.size()) == plan.query_heads) {
    violations.Add("heads", "all", "not all of them");
  }
}

// Keeps what stays of each group: as many as of every other, or nothing.
void KeepGroups(const std::vector<std::int64_t>& heads, PrunePlan& plan, Violations& violations) {
  const std::set<std::int64_t> gone(heads.begin(), heads.end());
  const std::int64_t of_group = plan.query_heads / plan.key_value_heads;
  std::set<std::int64_t> counts;
  for (std::int64_t group = 0; group < plan.key_value_heads; ++group) {
    std::int64_t left = 0;
    for (std::int64_t head = group * of_group; head < (group + 1) * of_group; ++head) {
      if (gone.count(head) != 0) continue;
      plan.kept.push_back(head);
      ++left;
    }
    if (left == 0) continue;
    plan.kept_key_value.push_back(group);
    counts.insert(left);
  }
  if (counts.size() > 1) {
    violations.Add("heads", absl::StrCat("groups that keep ", absl::StrJoin(counts, " and "), " heads"),
                   absl::StrCat("as many of each group of ", of_group, ", or none"));
  }
}

}  // namespace

absl::StatusOr<PrunePlan> PlanPrune(const Layer& layer, const std::vector<std::int64_t>& heads,
                                    std::int64_t query_heads, std::int64_t key_value_heads) {
  Violations violations;
  PrunePlan plan;
  CountHeads(layer, query_heads, key_value_heads, plan, violations);
  if (violations.empty()) CheckHeads(heads, plan, violations);
  if (violations.empty()) KeepGroups(heads, plan, violations);
  if (!violations.empty()) return violations.ToStatus();
  return plan;
}

OwnedTensor PruneField(const Layer& layer, const PrunePlan& plan, LayerField field) {
  const OwnedTensor& from = FieldOf(layer.matrices(), field);
  switch (field) {
    case LayerField::kQuery:
    case LayerField::kQueryBias: return KeepColumns(from, plan.kept, plan.query_heads);
    case LayerField::kKey:
    case LayerField::kKeyBias:
    case LayerField::kValue:
    case LayerField::kValueBias: return KeepColumns(from, plan.kept_key_value, plan.key_value_heads);
    case LayerField::kOutput: return KeepRows(from, plan.kept, plan.query_heads);
    case LayerField::kOutputBias: break;
  }
  return from;
}

void ShiftOutput(const OwnedTensor& shift, LayerMatrices& matrices) {
  if (shift.empty()) return;
  if (matrices.output_bias.empty()) matrices.output_bias = MakeTensor(TensorKind::kF32, shift.shape);
  for (std::int64_t i = 0; i < shift.shape[0]; ++i) matrices.output_bias.floats()[i] += shift.floats()[i];
}

std::int64_t PrunedBytes(const Layer& layer, const PrunePlan& plan, bool has_shift) {
  const LayerMatrices& m = layer.matrices();
  const auto left = [](const OwnedTensor& tensor, const std::vector<std::int64_t>& kept, std::int64_t heads) {
    return static_cast<std::int64_t>(tensor.bytes.size()) / heads * static_cast<std::int64_t>(kept.size());
  };
  std::int64_t bytes = static_cast<std::int64_t>(m.output_bias.bytes.size());
  if (has_shift && m.output_bias.empty()) bytes += m.output.shape[1] * WidthOf(TensorKind::kF32);
  for (const OwnedTensor* tensor : {&m.query, &m.query_bias, &m.output})
    bytes += left(*tensor, plan.kept, plan.query_heads);
  for (const OwnedTensor* tensor : {&m.key, &m.key_bias, &m.value, &m.value_bias}) {
    bytes += left(*tensor, plan.kept_key_value, plan.key_value_heads);
  }
  return bytes;
}

std::string HeaderOf(const LayerMatrices& matrices) {
  std::vector<std::pair<std::string, Shape>> tensors;
  for (int i = 0; i < kLayerFields; ++i) {
    const auto field = static_cast<LayerField>(i);
    const OwnedTensor& tensor = FieldOf(matrices, field);
    if (!tensor.empty()) tensors.emplace_back(std::string(NameOf(field)), tensor.shape);
  }
  return SafetensorsHeader(tensors);
}

}  // namespace headlight
