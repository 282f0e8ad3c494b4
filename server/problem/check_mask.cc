#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/problem/checker.h"

namespace headlight {
namespace {

// What lies before or after every key is as good as unbounded; sums with positions cannot overflow.
constexpr std::int64_t kFarthest = std::int64_t{1} << 40;

// An offset goes with EXPLICIT, and only with it.
void CheckExplicit(Checker& c, absl::string_view field, CausalAlignment alignment,
                   const std::optional<std::int64_t>& offset) {
  const bool is_explicit = alignment == CausalAlignment::kExplicit;
  if (is_explicit != offset.has_value()) {
    c.Report(field, is_explicit ? "nothing" : absl::StrCat(*offset),
             is_explicit ? "an offset, with EXPLICIT" : "nothing: an offset goes with EXPLICIT only");
  }
  c.Offset(field, offset.value_or(0));
}

// Where row 0 stands among the keys, for every batch.
void FillOffsets(Checker& c, CausalAlignment alignment, std::int64_t explicit_offset) {
  const Dimensions& d = c.spec.dims;
  if (d.batch > c.limits.max_batch) return;
  const std::vector<std::int64_t>& lengths = c.request.mask.key_lengths;
  const bool use_lengths = static_cast<std::int64_t>(lengths.size()) == d.batch;
  for (std::int64_t b = 0; b < d.batch; ++b) {
    std::int64_t offset = explicit_offset;
    if (alignment == CausalAlignment::kBottomRight) {
      // A length out of range is reported elsewhere.
      const std::int64_t length = use_lengths ? lengths[static_cast<std::size_t>(b)] : d.key_tokens;
      offset = std::clamp<std::int64_t>(length, 0, d.key_tokens) - d.query_tokens;
    }
    c.spec.mask.offsets.push_back(offset);
  }
}

void CheckCausal(Checker& c, const CausalForm& causal) {
  if (!causal.alignment.has_value()) return;
  CheckExplicit(c, "options.mask.causal.offset", *causal.alignment, causal.offset);
  c.spec.mask.causal = causal.alignment;
  FillOffsets(c, *causal.alignment, causal.offset.value_or(0));
}

std::optional<std::int64_t> CheckSide(Checker& c, absl::string_view field, const std::optional<std::int64_t>& side) {
  if (!side.has_value()) return side;
  if (*side < 0) c.Report(field, absl::StrCat(*side), "at least 0, or unset: unbounded");
  return std::min(*side, kFarthest);
}

// Which diagonal a window follows: the causal mask's, its own, or the one that all systems agree on.
void CheckWindowAlignment(Checker& c, const WindowForm& form, WindowSpec& window) {
  const Dimensions& d = c.spec.dims;
  constexpr absl::string_view kAlignment = "options.mask.window.alignment";
  if (c.request.mask.causal.has_value()) {
    if (form.alignment.has_value()) c.Report(kAlignment, "an alignment", "unset: the causal mask gives it");
    if (form.offset.has_value()) {
      c.Report("options.mask.window.offset", absl::StrCat(*form.offset), "unset: the causal mask gives it");
    }
    window.alignment = c.spec.mask.causal.value_or(window.alignment);
    return;
  }
  const bool ambiguous = d.query_tokens != d.key_tokens || !c.request.mask.key_lengths.empty();
  if (!form.alignment.has_value() && ambiguous && d.query_tokens != 0 && d.key_tokens != 0) {
    c.Report(kAlignment, "UNSPECIFIED",
             "TOP_LEFT, BOTTOM_RIGHT or EXPLICIT: it is ambiguous where Tq != Tk or key lengths are given");
  }
  window.alignment = form.alignment.value_or(CausalAlignment::kTopLeft);
  CheckExplicit(c, "options.mask.window.offset", window.alignment, form.offset);
  FillOffsets(c, window.alignment, form.offset.value_or(0));
}

void CheckWindow(Checker& c, const WindowForm& form) {
  if (!form.left.has_value() && !form.right.has_value()) {
    c.Report("options.mask.window", "neither left nor right", "at least one of them: a window has a bound");
  }
  WindowSpec& window = c.spec.mask.window.emplace();
  window.left = CheckSide(c, "options.mask.window.left", form.left);
  window.right = CheckSide(c, "options.mask.window.right", form.right);
  CheckWindowAlignment(c, form, window);
}

void CheckSegments(Checker& c, const SegmentsForm& form) {
  c.PerToken("options.mask.segments.query_ids", form.query_ids, c.spec.dims.query_tokens);
  c.PerToken("options.mask.segments.key_ids", form.key_ids, c.spec.dims.key_tokens);
  c.spec.mask.segments = std::make_shared<const SegmentsSpec>(SegmentsSpec{form.query_ids, form.key_ids});
}

void CheckLengths(Checker& c, const std::vector<std::int64_t>& lengths) {
  const Dimensions& d = c.spec.dims;
  if (d.batch != 0 && static_cast<std::int64_t>(lengths.size()) != d.batch) {
    c.Report("options.mask.key_lengths", absl::StrCat(lengths.size(), " lengths"),
             absl::StrCat(d.batch, ", one per batch"));
  }
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    if (lengths[b] >= 0 && (d.key_tokens == 0 || lengths[b] <= d.key_tokens)) continue;
    c.Report(absl::StrCat("options.mask.key_lengths[", b, "]"), absl::StrCat(lengths[b]),
             absl::StrCat("0 to ", d.key_tokens));
  }
  c.spec.mask.key_lengths = lengths;
}

void CheckMaskTensor(Checker& c, const TensorForm& form) {
  constexpr absl::string_view kField = "options.mask.tensor";
  const bool always_fits = form.kind == TensorKind::kBool || form.kind == TensorKind::kF32;
  if (c.kind_known && !always_fits && form.kind != c.spec.kind) {
    c.Report(absl::StrCat(kField, ".data"), std::string(NameOf(form.kind)),
             absl::StrCat("bool, f32 or the request's kind, ", NameOf(c.spec.kind)));
  }
  if (!c.Tensor(kField, form, 1, 4)) return;
  MaskTensorSpec mask;
  mask.kind = form.kind;
  mask.shape = {1, 1, 1, 1};
  std::copy(form.shape.rbegin(), form.shape.rend(), mask.shape.rbegin());
  c.spec.mask.tensor = mask;
  const Dimensions& d = c.spec.dims;
  if (d.batch == 0 || d.query_tokens == 0 || d.key_tokens == 0) return;
  // The heads alone may not be known: those of a layer that is not there.
  const auto fits = [&mask](std::size_t axis, std::int64_t size) {
    return mask.shape[axis] == 1 || mask.shape[axis] == size || size == 0;
  };
  const std::int64_t keys = mask.shape[3];
  if (!fits(0, d.batch) || !fits(1, d.query_heads) || !fits(2, d.query_tokens) || keys > d.key_tokens) {
    c.Report(absl::StrCat(kField, ".shape"), ToString(form.shape),
             absl::StrCat("broadcastable to [", d.batch, ", ", d.query_heads == 0 ? "Hq" : absl::StrCat(d.query_heads),
                          ", ", d.query_tokens, ", ", d.key_tokens, "], the last axis at most ", d.key_tokens));
  } else if (keys == 1 && d.key_tokens > 1) {
    c.Report(absl::StrCat(kField, ".shape"), ToString(form.shape),
             absl::StrCat("a last axis of 2 to ", d.key_tokens, ": 1 is ambiguous (one key, or repeated?)"));
  }
}

}  // namespace

void CheckMask(Checker& c) {
  const MaskForm& mask = c.request.mask;
  if (mask.causal.has_value()) CheckCausal(c, *mask.causal);
  if (mask.window.has_value()) CheckWindow(c, *mask.window);
  if (mask.segments.has_value()) CheckSegments(c, *mask.segments);
  if (mask.tensor.has_value()) CheckMaskTensor(c, *mask.tensor);
  if (!mask.key_lengths.empty()) CheckLengths(c, mask.key_lengths);
}

}  // namespace headlight
