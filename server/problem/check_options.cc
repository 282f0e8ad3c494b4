#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/problem/checker.h"

namespace headlight {
namespace {

constexpr std::int64_t kOffsetBound = std::int64_t{1} << 31;

// |offset| < 2^31, so that sums of offsets and tokens cannot overflow.
void CheckOffset(Checker& c, absl::string_view field, std::int64_t offset) {
  if (offset <= -kOffsetBound || offset >= kOffsetBound) {
    c.Report(field, absl::StrCat(offset), "a number between -2^31 and 2^31");
  }
}

void CheckBase(Checker& c, absl::string_view field) {
  const double base = c.request.position.base.value_or(10000);
  c.spec.position.base = base;
  if (!std::isfinite(base) || base <= 0) c.Report(field, absl::StrCat(base), "a finite number above 0");
}

bool RequireEmbeddings(Checker& c, absl::string_view field) {
  if (!std::holds_alternative<QueryKeyValueForm>(c.request.input)) return true;
  c.Report(field, "Q, K and V", "embeddings: the scheme is added to them before the projections");
  return false;
}

void CheckSinusoidal(Checker& c) {
  if (!RequireEmbeddings(c, "options.position.sinusoidal")) return;
  CheckBase(c, "options.position.sinusoidal.base");
  if (c.spec.projection.has_value() && c.spec.projection->width % 2 != 0) {
    c.Report("options.position.sinusoidal", absl::StrCat("embeddings of width ", c.spec.projection->width),
             "an even width");
  }
}

void CheckLearned(Checker& c) {
  constexpr absl::string_view kField = "options.position.learned.table";
  if (!RequireEmbeddings(c, "options.position.learned")) return;
  const std::optional<TensorForm>& table = c.request.position.table;
  if (!table.has_value()) return c.Report(kField, "nothing", "a tensor [positions, E]");
  if (c.kind_known && table->kind != TensorKind::kF32 && table->kind != c.spec.kind) {
    c.Report(absl::StrCat(kField, ".data"), std::string(NameOf(table->kind)),
             absl::StrCat("f32 or the request's kind, ", NameOf(c.spec.kind)));
  }
  if (!c.Tensor(kField, *table, 2, 2) || !c.spec.projection.has_value()) return;
  const std::int64_t width = c.spec.projection->width;
  if (width != 0 && table->shape[1] != width) {
    c.Report(absl::StrCat(kField, ".shape"), ToString(table->shape), absl::StrCat("[positions, ", width, "]"));
  }
  const std::int64_t offset = c.request.position.query_offset.value_or(0);
  if (offset < 0 || offset > table->shape[0] - c.spec.dims.query_tokens) {
    c.Report("options.position.query_offset",
             absl::StrCat("positions ", offset, " to ", offset, " + ", c.spec.dims.query_tokens - 1),
             absl::StrCat("positions within the table's 0 to ", table->shape[0] - 1));
  }
}

void CheckRotary(Checker& c) {
  CheckBase(c, "options.position.rotary.base");
  const std::int64_t head_size = c.spec.dims.head_size;
  const std::int64_t wish = c.request.position.rotary_size;
  const std::int64_t size = wish != 0 ? wish : head_size;
  c.spec.position.rotary_size = size;
  if (head_size != 0 && (size % 2 != 0 || size > head_size)) {
    c.Report("options.position.rotary.rotary_size", absl::StrCat(wish),
             absl::StrCat("an even number up to the head size ", head_size, " (0 means the head size)"));
  }
}

// The paper's slopes: a geometric sequence from 2^(-8/H); for H no power of two, those of the next lower power, then
// every other one of the next higher (arXiv 2108.12409, section 3 and its published code).
std::vector<float> PaperSlopes(std::int64_t heads) {
  std::int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<float> slopes;
  const auto slope = [](double index, double count) { return static_cast<float>(std::exp2(-8.0 * index / count)); };
  for (std::int64_t h = 0; h < power; ++h) {
    slopes.push_back(slope(static_cast<double>(h + 1), static_cast<double>(power)));
  }
  for (std::int64_t h = 0; power + h < heads; ++h) {
    slopes.push_back(slope(static_cast<double>(2 * h + 1), static_cast<double>(2 * power)));
  }
  return slopes;
}

void CheckAlibi(Checker& c) {
  constexpr absl::string_view kField = "options.position.alibi.slopes";
  const std::vector<float>& given = c.request.position.slopes;
  const std::int64_t heads = c.spec.dims.query_heads;
  if (heads == 0) return;
  if (!given.empty() && static_cast<std::int64_t>(given.size()) != heads) {
    c.Report(kField, absl::StrCat(given.size(), " slopes"),
             absl::StrCat(heads, ", one per query head, or none for the paper's"));
  }
  for (std::size_t h = 0; h < given.size(); ++h) {
    if (!std::isfinite(given[h]))
      c.Report(absl::StrCat(kField, "[", h, "]"), absl::StrCat(given[h]), "a finite number");
  }
  c.spec.position.slopes = given.empty() && heads <= c.limits.max_heads ? PaperSlopes(heads) : given;
}

void CheckOffsets(Checker& c) {
  const PositionForm& p = c.request.position;
  PositionSpec& spec = c.spec.position;
  spec.query_offset = p.query_offset.value_or(0);
  CheckOffset(c, "options.position.query_offset", spec.query_offset);
  const bool own_keys = c.spec.projection.has_value() && !c.spec.projection->has_context;
  spec.key_offset = p.key_offset.value_or(own_keys ? spec.query_offset : 0);
  CheckOffset(c, "options.position.key_offset", spec.key_offset);
  if (own_keys && spec.key_offset != spec.query_offset) {
    c.Report("options.position.key_offset", absl::StrCat(spec.key_offset),
             absl::StrCat("unset or ", spec.query_offset, ": the keys are the queries' own tokens"));
  }
  const Dimensions& d = c.spec.dims;
  const bool ambiguous = d.query_tokens != d.key_tokens || !c.request.mask.key_lengths.empty();
  if (p.kind != PositionKind::kNone && ambiguous && !p.query_offset.has_value() && d.query_tokens != 0 &&
      d.key_tokens != 0) {
    c.Report("options.position.query_offset", "nothing",
             "where query 0 stands: it is ambiguous where Tq != Tk or key lengths are given");
  }
}

void CheckCausal(Checker& c, const CausalForm& causal) {
  if (!causal.alignment.has_value()) return;
  const bool is_explicit = *causal.alignment == CausalAlignment::kExplicit;
  if (is_explicit != causal.offset.has_value()) {
    c.Report("options.mask.causal.offset", is_explicit ? "nothing" : absl::StrCat(*causal.offset),
             is_explicit ? "an offset, with EXPLICIT" : "nothing: an offset goes with EXPLICIT only");
  }
  CheckOffset(c, "options.mask.causal.offset", causal.offset.value_or(0));
  c.spec.mask.causal = causal.alignment;
  const Dimensions& d = c.spec.dims;
  if (d.batch > c.limits.max_batch) return;
  const std::vector<std::int64_t>& lengths = c.request.mask.key_lengths;
  const bool use_lengths = static_cast<std::int64_t>(lengths.size()) == d.batch;
  for (std::int64_t b = 0; b < d.batch; ++b) {
    std::int64_t offset = causal.offset.value_or(0);
    if (*causal.alignment == CausalAlignment::kBottomRight) {
      // A length out of range is reported elsewhere.
      const std::int64_t length = use_lengths ? lengths[static_cast<std::size_t>(b)] : d.key_tokens;
      offset = std::clamp<std::int64_t>(length, 0, d.key_tokens) - d.query_tokens;
    }
    c.spec.mask.causal_offsets.push_back(offset);
  }
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
  if (d.batch == 0 || d.query_heads == 0 || d.query_tokens == 0 || d.key_tokens == 0) return;
  const auto fits = [&mask](std::size_t axis, std::int64_t size) {
    return mask.shape[axis] == 1 || mask.shape[axis] == size;
  };
  const std::int64_t keys = mask.shape[3];
  if (!fits(0, d.batch) || !fits(1, d.query_heads) || !fits(2, d.query_tokens) || keys > d.key_tokens) {
    c.Report(absl::StrCat(kField, ".shape"), ToString(form.shape),
             absl::StrCat("broadcastable to [", d.batch, ", ", d.query_heads, ", ", d.query_tokens, ", ", d.key_tokens,
                          "], the last axis at most ", d.key_tokens));
  } else if (keys == 1 && d.key_tokens > 1) {
    c.Report(absl::StrCat(kField, ".shape"), ToString(form.shape),
             absl::StrCat("a last axis of 2 to ", d.key_tokens, ": 1 is ambiguous (one key, or repeated?)"));
  }
}

}  // namespace

void CheckPosition(Checker& c) {
  c.spec.position.kind = c.request.position.kind;
  if (c.request.position.layout.has_value()) c.spec.position.layout = *c.request.position.layout;
  switch (c.request.position.kind) {
    case PositionKind::kNone: break;
    case PositionKind::kSinusoidal: CheckSinusoidal(c); break;
    case PositionKind::kLearned: CheckLearned(c); break;
    case PositionKind::kRotary: CheckRotary(c); break;
    case PositionKind::kAlibi: CheckAlibi(c); break;
  }
  CheckOffsets(c);
}

void CheckMask(Checker& c) {
  const MaskForm& mask = c.request.mask;
  const Dimensions& d = c.spec.dims;
  if (mask.causal.has_value()) CheckCausal(c, *mask.causal);
  if (mask.tensor.has_value()) CheckMaskTensor(c, *mask.tensor);
  if (mask.key_lengths.empty()) return;
  if (d.batch != 0 && static_cast<std::int64_t>(mask.key_lengths.size()) != d.batch) {
    c.Report("options.mask.key_lengths", absl::StrCat(mask.key_lengths.size(), " lengths"),
             absl::StrCat(d.batch, ", one per batch"));
  }
  for (std::size_t b = 0; b < mask.key_lengths.size(); ++b) {
    const std::int64_t length = mask.key_lengths[b];
    if (length < 0 || (d.key_tokens != 0 && length > d.key_tokens)) {
      c.Report(absl::StrCat("options.mask.key_lengths[", b, "]"), absl::StrCat(length),
               absl::StrCat("0 to ", d.key_tokens));
    }
  }
  c.spec.mask.key_lengths = mask.key_lengths;
}

void CheckScale(Checker& c) {
  if (c.request.scale.has_value()) {
    c.spec.scale = *c.request.scale;
    if (!std::isfinite(c.spec.scale)) c.Report("options.scale", absl::StrCat(c.spec.scale), "a finite number");
  } else if (c.spec.dims.head_size != 0) {
    c.spec.scale = 1 / std::sqrt(static_cast<double>(c.spec.dims.head_size));
  }
}

}  // namespace headlight
