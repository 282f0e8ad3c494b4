#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/problem/check_tensor.h"
#include "server/problem/checker.h"
#include "server/problem/spec.h"

namespace headlight {

bool Checker::Tensor(absl::string_view field, const TensorForm& form, int least_rank, int most_rank) {
  return CheckTensor(field, form, {least_rank, most_rank}, limits, violations);
}

bool Checker::Numbers(absl::string_view field, const std::optional<TensorForm>& form, int least_rank, int most_rank) {
  if (!form.has_value()) {
    Report(field, "nothing", "a tensor with data");
    return false;
  }
  if (form->kind == TensorKind::kBool) {
    Report(absl::StrCat(field, ".data"), "bool", "f32, f16 or bf16");
  } else if (!kind_known) {
    spec.kind = form->kind;
    kind_known = true;
  } else if (form->kind != spec.kind) {
    Report(absl::StrCat(field, ".data"), std::string(NameOf(form->kind)),
           absl::StrCat(NameOf(spec.kind), " like the first tensor: one kind a request"));
  }
  return Tensor(field, *form, least_rank, most_rank);
}

bool Checker::InLimit(absl::string_view field, std::int64_t value, std::int64_t low, std::int64_t high,
                      absl::string_view what) {
  if (value >= low && value <= high) return true;
  const std::string got = absl::StrCat(what, value);
  const std::string expected = absl::StrCat(low, " to ", high);
  if (value > high) {
    violations.AddTooExpensive(std::string(field), got, expected);
  } else {
    Report(field, got, expected);
  }
  return false;
}

void Checker::Offset(absl::string_view field, std::int64_t offset) {
  constexpr std::int64_t kBound = std::int64_t{1} << 31;
  if (offset > -kBound && offset < kBound) return;
  Report(field, absl::StrCat(offset), "a number between -2^31 and 2^31");
}

void Checker::PerToken(absl::string_view field, const std::vector<std::int64_t>& list, std::int64_t tokens) {
  const auto count = static_cast<std::int64_t>(list.size());
  if (tokens == 0 || count == tokens || count == spec.dims.batch * tokens) return;
  Report(field, absl::StrCat(count, " numbers"),
         spec.dims.batch > 1 ? absl::StrCat(tokens, ", or ", spec.dims.batch, " x ", tokens) : absl::StrCat(tokens));
}

absl::StatusOr<ProblemSpec> CheckProblem(const ProblemRequest& request, const Limits& limits) {
  ProblemSpec spec;
  Violations violations = request.violations;
  Checker checker{request, limits, spec, violations};
  CheckInput(checker);
  CheckPart(checker);
  CheckPosition(checker);
  CheckMask(checker);
  KeepPart(checker);
  FillPositions(checker);
  CheckScores(checker);
  spec.algorithm = request.algorithm;
  spec.precision = request.precision;
  spec.allow_non_finite = request.allow_non_finite;
  CheckOutputs(checker);
  CheckTokens(checker);
  if (!violations.empty()) return violations.ToStatus();
  if (const auto* self = std::get_if<SelfAttentionForm>(&request.input);
      self != nullptr && self->weights == WeightsSource::kNamed && !self->layer.has_value()) {
    ErrorDetails details;
    details.reason = ErrorReason::kLayerNotFound;
    details.metadata["layer"] = self->layer_name;
    return MakeError(absl::StatusCode::kNotFound,
                     "self_attention.layer: no layer has this name; GetServerInfo lists those there are", details);
  }
  return spec;
}

bool OutputSpec::ShowsRawScores() const {
  return std::any_of(maps.begin(), maps.end(), [](const MapSpec& map) { return IsRaw(map.stage); });
}

bool OutputSpec::SweepsWeights() const {
  return std::any_of(maps.begin(), maps.end(),
                     [](const MapSpec& map) { return map.IsSweep() && map.stage == MapStage::kWeights; });
}

Shape ProblemSpec::OutputShape() const {
  Shape shape;
  if (projection.has_value() || layout == HeadLayout::kTokenMajor) {
    const std::int64_t concat = dims.query_heads * dims.value_head_size;
    const std::int64_t width =
        projection.has_value() && projection->output_width > 0 ? projection->output_width : concat;
    shape = {dims.query_tokens, width};
    if (batched) shape.insert(shape.begin(), dims.batch);
  } else {
    shape = {dims.batch, dims.query_heads, dims.query_tokens, dims.value_head_size};
  }
  return shape;
}

}  // namespace headlight
