#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/problem/check_tensor.h"
#include "server/service/decode_fields.h"
#include "server/service/merge_call.h"

namespace headlight {
namespace {

class MergeChecker {
 public:
  MergeChecker(const v1::MergePartialsRequest& request, const Limits& limits) : request_(request), limits_(limits) {}

  absl::StatusOr<MergeProblem> Check() {
    if (Within("partials", request_.partials_size(), limits_.max_partials)) {
      for (int i = 0; i < request_.partials_size(); ++i) CheckPartial(i);
    }
    PerHead("sinks", request_.sinks(), p_.sinks);
    PerHead("head_gains", request_.head_gains(), p_.head_gains);
    CheckWeights();
    CheckChoices();
    if (!violations_.empty()) return violations_.ToStatus();
    Finish();
    const std::int64_t bytes = CostOfMerge(p_).answer;
    if (bytes > limits_.max_response_bytes) return ResponseTooLarge("partials", bytes, limits_.max_response_bytes);
    return std::move(p_);
  }

 private:
  bool Within(const std::string& field, std::int64_t value, std::int64_t most) {
    if (value >= 1 && value <= most) return true;
    const std::string expected = absl::StrCat("1 to ", most);
    if (value > most) {
      violations_.AddTooExpensive(field, absl::StrCat(value), expected);
    } else {
      violations_.Add(field, absl::StrCat(value), expected);
    }
    return false;
  }

  // True where there is a tensor whose shape can be used.
  bool Usable(const std::string& field, bool is_set, const v1::Tensor& message, TensorView& view) {
    const std::optional<TensorForm> form = DecodeTensor(is_set, message, view);
    if (!form.has_value()) {
      violations_.Add(field, "nothing", "a tensor with data");
      return false;
    }
    return CheckTensor(field, *form, {1, 4}, limits_, violations_);
  }

  bool OfKind(const std::string& field, TensorKind kind, TensorKind wanted) {
    if (kind == wanted) return true;
    violations_.Add(field + ".data", std::string(NameOf(kind)), std::string(NameOf(wanted)));
    return false;
  }

  // The first log-sum-exp says what B, H and T are, the first output how it is laid out.
  void CheckPartial(int i) {
    const v1::PartialAttention& partial = request_.partials(i);
    const std::string field = absl::StrCat("partials[", i, "]");
    PartialViews& views = p_.partials.emplace_back();
    const std::string lse = field + ".log_sum_exp";
    if (Usable(lse, partial.has_log_sum_exp(), partial.log_sum_exp(), views.log_sum_exp) &&
        OfKind(lse, views.log_sum_exp.kind, TensorKind::kF32)) {
      CheckLogSumExp(lse, views.log_sum_exp.shape);
    }
    const std::string output = field + ".output";
    if (Usable(output, partial.has_output(), partial.output(), views.output)) CheckOutput(output, views.output);
  }

  void CheckLogSumExp(const std::string& field, const Shape& shape) {
    if (p_.batch == 0 && shape.size() == 3) {
      p_.batch = shape[0];
      p_.heads = shape[1];
      p_.tokens = shape[2];
      Within(field + ".shape", p_.batch, limits_.max_batch);
      Within(field + ".shape", p_.heads, limits_.max_heads);
      Within(field + ".shape", p_.tokens, limits_.max_tokens);
    } else if (p_.batch == 0) {
      violations_.Add(field + ".shape", ToString(shape), "[B, Hq, Tq]");
    } else if (const Shape wanted{p_.batch, p_.heads, p_.tokens}; shape != wanted) {
      violations_.Add(field + ".shape", ToString(shape), ToString(wanted) + ", as the first");
    }
  }

  void CheckOutput(const std::string& field, const TensorView& output) {
    if (output.kind == TensorKind::kBool) {
      violations_.Add(field + ".data", "bool", "f32, f16 or bf16");
      return;
    }
    if (!form_.empty()) {
      OfKind(field, output.kind, kind_);
      if (output.shape != form_)
        violations_.Add(field + ".shape", ToString(output.shape), ToString(form_) + ", as the first");
      return;
    }
    if (p_.batch == 0) return;  // its log-sum-exp is wrong
    form_ = output.shape;
    kind_ = output.kind;
    const std::size_t rank = form_.size();
    const std::int64_t last = form_.back();
    const Shape head_major{p_.batch, p_.heads, p_.tokens, last};
    const Shape token_major{p_.batch, p_.tokens, last};
    const Shape unbatched{p_.tokens, last};
    p_.layout = rank == 4 ? HeadLayout::kHeadMajor : HeadLayout::kTokenMajor;
    p_.value_head_size = rank == 4 ? last : last / p_.heads;
    const bool known = form_ == head_major || form_ == token_major || (form_ == unbatched && p_.batch == 1);
    if (!known || (rank != 4 && last % p_.heads != 0)) {
      violations_.Add(field + ".shape", ToString(form_),
                      absl::StrCat("[", p_.batch, ", ", p_.heads, ", ", p_.tokens, ", Dv], [", p_.batch, ", ",
                                   p_.tokens, ", ", p_.heads, " x Dv]", p_.batch == 1 ? " or that without its B" : ""));
      p_.value_head_size = 0;
    } else {
      Within(field + ".shape", p_.value_head_size, limits_.max_head_size);
    }
  }

  void PerHead(const std::string& field, const google::protobuf::RepeatedField<float>& given,
               std::vector<float>& kept) {
    kept.assign(given.begin(), given.end());
    if (!kept.empty() && p_.heads != 0 && static_cast<std::int64_t>(kept.size()) != p_.heads) {
      violations_.Add(field, absl::StrCat(kept.size(), " numbers"), absl::StrCat(p_.heads, ", one per head, or none"));
    }
    for (std::size_t h = 0; h < kept.size(); ++h) {
      if (std::isfinite(kept[h])) continue;
      violations_.Add(absl::StrCat(field, "[", h, "]"), absl::StrCat(kept[h]), "a finite number");
    }
  }

  void CheckWeights() {
    if (request_.has_output_bias() && !request_.has_output_weights()) {
      violations_.Add("output_bias", "a tensor", "nothing, without output_weights");
    }
    if (!request_.has_output_weights()) return;
    if (!Usable("output_weights", true, request_.output_weights(), p_.output_weights)) return;
    const Shape& shape = p_.output_weights.shape;
    if (!form_.empty()) OfKind("output_weights", p_.output_weights.kind, kind_);
    if (shape.size() != 2 || (p_.value_head_size != 0 && shape[0] != p_.concat_width())) {
      violations_.Add("output_weights.shape", ToString(shape),
                      p_.value_head_size == 0 ? "[Hq x Dv, Eo]" : absl::StrCat("[", p_.concat_width(), ", Eo]"));
      return;
    }
    Within("output_weights.shape", shape[1], limits_.max_width);
    if (!request_.has_output_bias() || !Usable("output_bias", true, request_.output_bias(), p_.output_bias)) return;
    if (!form_.empty()) OfKind("output_bias", p_.output_bias.kind, kind_);
    if (p_.output_bias.shape != Shape{shape[1]}) {
      violations_.Add("output_bias.shape", ToString(p_.output_bias.shape), absl::StrCat("[", shape[1], "]"));
    }
  }

  void CheckChoices() {
    const auto choice = [this](const char* field, int number, const char* allowed) {
      violations_.Add(field, absl::StrCat("number ", number), allowed);
    };
    switch (request_.tensor_kind()) {
      case v1::TENSOR_KIND_UNSPECIFIED: p_.output_kind = kind_; break;
      case v1::TENSOR_KIND_F32: p_.output_kind = TensorKind::kF32; break;
      case v1::TENSOR_KIND_F16: p_.output_kind = TensorKind::kF16; break;
      case v1::TENSOR_KIND_BF16: p_.output_kind = TensorKind::kBF16; break;
      default: choice("tensor_kind", request_.tensor_kind(), "F32, F16 or BF16");
    }
    if (!v1::Priority_IsValid(request_.priority())) choice("priority", request_.priority(), "INTERACTIVE or BATCH");
  }

  void Finish() {
    p_.output_shape = form_;
    if (p_.output_weights.empty()) return;
    p_.blocks = ChooseProjectionBlocks(p_.concat_width());
    p_.output_shape = {p_.tokens, p_.output_width()};
    if (form_.size() != 2) p_.output_shape.insert(p_.output_shape.begin(), p_.batch);
  }

  const v1::MergePartialsRequest& request_;
  const Limits& limits_;
  Violations violations_;
  MergeProblem p_;
  Shape form_;  // of all outputs
  TensorKind kind_ = TensorKind::kF32;
};

}  // namespace

absl::StatusOr<MergeProblem> CheckMerge(const v1::MergePartialsRequest& request, const Limits& limits) {
  return MergeChecker(request, limits).Check();
}

}  // namespace headlight
