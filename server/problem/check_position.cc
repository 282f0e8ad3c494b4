#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/problem/checker.h"

namespace headlight {
namespace {

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
  const std::vector<std::int64_t>& given = c.request.position.query_positions;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (given[i] >= 0 && given[i] < table->shape[0]) continue;
    c.Report(absl::StrCat("options.position.query_positions[", i, "]"), absl::StrCat(given[i]),
             absl::StrCat("a position within the table's 0 to ", table->shape[0] - 1));
  }
  if (!given.empty()) return;
  const std::int64_t offset = c.request.position.query_offset.value_or(0);
  if (offset < 0 || offset > table->shape[0] - c.spec.dims.query_tokens) {
    c.Report("options.position.query_offset",
             absl::StrCat("positions ", offset, " to ", offset, " + ", c.spec.dims.query_tokens - 1),
             absl::StrCat("positions within the table's 0 to ", table->shape[0] - 1));
  }
}

void CheckAbove(Checker& c, const std::string& field, double value, double least) {
  if (std::isfinite(value) && value > least) return;
  c.Report(field, absl::StrCat(value), absl::StrCat("a finite number above ", least));
}

void CheckScaling(Checker& c) {
  const RotaryScalingOptions& scaling = c.request.position.scaling;
  c.spec.position.scaling = scaling;
  const char* name = "linear";
  if (scaling.kind == RotaryScaling::kNone) return;
  if (scaling.kind == RotaryScaling::kNtkAware) name = "ntk_aware";
  if (scaling.kind == RotaryScaling::kLlama3) name = "llama3";
  if (scaling.kind == RotaryScaling::kYarn) name = "yarn";
  const std::string field = absl::StrCat("options.position.rotary.", name);
  CheckAbove(c, field + ".factor", scaling.factor, 0);
  if (scaling.kind == RotaryScaling::kLinear || scaling.kind == RotaryScaling::kNtkAware) return;
  if (scaling.original_context < 1) {
    c.Report(field + ".original_context", absl::StrCat(scaling.original_context), "tokens, at least 1");
  }
  if (scaling.kind == RotaryScaling::kLlama3) {
    CheckAbove(c, field + ".low_frequency_factor", scaling.low_frequency_factor, 0);
    CheckAbove(c, field + ".high_frequency_factor", scaling.high_frequency_factor,
               std::isfinite(scaling.low_frequency_factor) ? std::max(scaling.low_frequency_factor, 0.0) : 0);
    return;
  }
  if (c.spec.position.base == 1) {
    c.Report("options.position.rotary.base", "1 with YaRN", "another base: with 1 all channels turn alike");
  }
  CheckAbove(c, field + ".beta_slow", scaling.beta_slow, 0);
  CheckAbove(c, field + ".beta_fast", scaling.beta_fast, 0);
  if (std::isfinite(scaling.beta_fast) && scaling.beta_fast > 0 && scaling.beta_fast < scaling.beta_slow) {
    c.Report(field + ".beta_fast", absl::StrCat(scaling.beta_fast),
             absl::StrCat("at least beta_slow, ", scaling.beta_slow));
  }
  if (scaling.attention_factor.has_value()) CheckAbove(c, field + ".attention_factor", *scaling.attention_factor, 0);
}

void CheckRotary(Checker& c) {
  CheckBase(c, "options.position.rotary.base");
  CheckScaling(c);
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

// Positions one by one: as many as tokens, instead of the offset of the same side.
void CheckPositions(Checker& c, absl::string_view side, const std::vector<std::int64_t>& given,
                    const std::optional<std::int64_t>& offset, std::int64_t tokens) {
  if (given.empty()) return;
  const std::string field = absl::StrCat("options.position.", side, "_positions");
  c.PerToken(field, given, tokens);
  if (offset.has_value()) {
    c.Report(field, absl::StrCat(given.size(), " positions beside an offset"), "positions or an offset");
  }
  for (std::size_t i = 0; i < given.size(); ++i) c.Offset(absl::StrCat(field, "[", i, "]"), given[i]);
}

// Both sides one by one, or both by offset: where one is given one by one, the other is written out.
void FillOtherSide(std::int64_t tokens, std::int64_t offset, const std::vector<std::int64_t>& given,
                   std::vector<std::int64_t>& side) {
  if (given.empty() || !side.empty()) return;
  for (std::int64_t i = 0; i < tokens; ++i) side.push_back(offset + i);
}

void CheckOffsets(Checker& c) {
  const PositionForm& p = c.request.position;
  PositionSpec& spec = c.spec.position;
  CheckPositions(c, "query", p.query_positions, p.query_offset, c.spec.dims.query_tokens);
  CheckPositions(c, "key", p.key_positions, p.key_offset, c.spec.dims.key_tokens);
  spec.query_offset = p.query_offset.value_or(0);
  c.Offset("options.position.query_offset", spec.query_offset);
  const bool own_keys = c.spec.projection.has_value() && !c.spec.projection->has_context;
  spec.key_offset = p.key_offset.value_or(own_keys ? spec.query_offset : 0);
  c.Offset("options.position.key_offset", spec.key_offset);
  spec.query_positions = p.query_positions;
  spec.key_positions = own_keys ? p.query_positions : p.key_positions;
  if (own_keys && !p.key_positions.empty() && p.key_positions != p.query_positions) {
    c.Report("options.position.key_positions", absl::StrCat(p.key_positions.size(), " positions"),
             "unset or equal to query_positions: the keys are the queries' own tokens");
  }
  if (own_keys && spec.key_offset != spec.query_offset) {
    c.Report("options.position.key_offset", absl::StrCat(spec.key_offset),
             absl::StrCat("unset or ", spec.query_offset, ": the keys are the queries' own tokens"));
  }
  const Dimensions& d = c.spec.dims;
  const bool ambiguous = d.query_tokens != d.key_tokens || !c.request.mask.key_lengths.empty();
  if (p.kind != PositionKind::kNone && ambiguous && !p.query_offset.has_value() && p.query_positions.empty() &&
      d.query_tokens != 0 && d.key_tokens != 0) {
    c.Report("options.position.query_offset", "nothing",
             "where query 0 stands (or query_positions): it is ambiguous where Tq != Tk or key lengths are given");
  }
}

}  // namespace

void FillPositions(Checker& c) {
  if (!c.violations.empty()) return;  // tokens and offsets may be beyond limits
  PositionSpec& spec = c.spec.position;
  FillOtherSide(c.spec.dims.query_tokens, spec.query_offset, spec.key_positions, spec.query_positions);
  FillOtherSide(c.spec.dims.key_tokens, spec.key_offset, spec.query_positions, spec.key_positions);
}

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

}  // namespace headlight
