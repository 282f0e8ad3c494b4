#include <algorithm>
#include <numeric>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/problem/checker.h"

namespace headlight {
namespace {

// A list of indices below `count` without repeats; empty means all.
std::vector<std::int64_t> CheckSelection(Checker& c, const std::string& field, const std::vector<std::int64_t>& given,
                                         std::int64_t count) {
  std::vector<std::int64_t> chosen = given;
  if (given.empty()) {
    chosen.resize(static_cast<std::size_t>(count));
    std::iota(chosen.begin(), chosen.end(), 0);
    return chosen;
  }
  if (count == 0) return {};
  std::set<std::int64_t> seen;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (given[i] < 0 || given[i] >= count || !seen.insert(given[i]).second) {
      c.Report(absl::StrCat(field, "[", i, "]"), absl::StrCat(given[i]),
               absl::StrCat("0 to ", count - 1, ", each once"));
    }
  }
  return chosen;
}

bool CheckRange(Checker& c, const std::string& field, const Range& range, std::int64_t count) {
  if (range.begin >= 0 && range.end > range.begin && (count == 0 || range.end <= count)) return true;
  c.Report(field, absl::StrCat(range.begin, " to ", range.end), absl::StrCat("begin below end, within 0 to ", count));
  return false;
}

// A pooled map has no more cells than there are rows, in every range, and keys.
void CheckPooled(Checker& c, const PooledForm& form, const std::string& field, MapSpec& map) {
  std::int64_t rows = c.limits.max_tokens;
  for (const Range& range : map.rows) rows = std::min(rows, range.size());
  const auto check = [&c](const std::string& path, std::int64_t cells, std::int64_t most) {
    if (cells < 1 || cells > most) c.Report(path, absl::StrCat(cells), absl::StrCat("1 to ", most));
  };
  check(field + ".pooled.rows", form.rows, rows);
  check(field + ".pooled.columns", form.columns, map.keys.size());
  map.pooled = PooledSpec{form.rows, form.columns, form.reducer.value_or(PoolReducer::kMean)};
}

MapSpec CheckMap(Checker& c, const MapForm& form, const std::string& field) {
  const Dimensions& d = c.spec.dims;
  MapSpec map;
  map.heads = CheckSelection(c, field + ".heads", form.heads, std::min(d.query_heads, c.limits.max_heads));
  map.batches = CheckSelection(c, field + ".batches", form.batches, std::min(d.batch, c.limits.max_batch));
  map.rows = form.rows;
  if (form.rows.empty()) map.rows.push_back({0, d.query_tokens});
  c.InLimit(field + ".rows", static_cast<std::int64_t>(form.rows.size()), 0, c.limits.max_row_ranges);
  const std::size_t checked = std::min(form.rows.size(), static_cast<std::size_t>(c.limits.max_row_ranges));
  bool rows_known = d.query_tokens != 0;
  for (std::size_t i = 0; i < checked; ++i) {
    rows_known &= CheckRange(c, absl::StrCat(field, ".rows[", i, "]"), form.rows[i], d.query_tokens);
  }
  map.stage = form.stage;
  map.column_sums = form.column_sums;
  map.keys = form.keys.value_or(Range{0, d.key_tokens});
  const bool keys_known = !form.keys.has_value() || CheckRange(c, field + ".keys", *form.keys, d.key_tokens);
  if (form.top_k.has_value() && c.InLimit(field + ".top_keys.k", *form.top_k, 1, c.limits.max_top_keys) && keys_known) {
    map.top_k = std::min(*form.top_k, std::max<std::int64_t>(1, map.keys.size()));
  }
  if (form.pooled.has_value() && rows_known && keys_known && d.key_tokens != 0)
    CheckPooled(c, *form.pooled, field, map);
  return map;
}

// A byte that a label may hold: printable ASCII, or part of a UTF-8 sequence.
bool IsPrintable(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x20 && byte != 0x7f;
}

}  // namespace

void CheckOutputs(Checker& c) {
  const OutputsForm& form = c.request.outputs;
  OutputSpec& spec = c.spec.outputs;
  spec.output = !form.omit_output;
  spec.log_sum_exp = form.log_sum_exp;
  spec.head_outputs = form.head_outputs;
  spec.head_statistics = form.head_statistics;
  spec.verify_rows = form.verify_rows;
  c.InLimit("outputs.verify_rows", form.verify_rows, 0, c.limits.max_verify_rows);
  if (form.omit_output && form.verify_rows > 0) {
    c.Report("outputs.verify_rows", absl::StrCat(form.verify_rows, " with omit_output"),
             "0: it is the output's rows that are verified");
  }
  spec.kind = form.kind.value_or(c.spec.kind);
  const auto server = static_cast<std::uint64_t>(c.limits.max_response_bytes);
  spec.max_response_bytes =
      static_cast<std::int64_t>(form.max_response_bytes == 0 ? server : std::min(form.max_response_bytes, server));
  const bool other = form.log_sum_exp || form.head_outputs || form.head_statistics || !form.maps.empty();
  if (form.omit_output && !other) {
    c.Report("outputs.omit_output", "true, and nothing else asked for",
             "maps, head_statistics, log_sum_exp or head_outputs beside it");
  }
  if (spec.kind == TensorKind::kBool) c.Report("outputs.tensor_kind", "BOOL", "F32, F16 or BF16");
  if (!c.InLimit("outputs.maps", static_cast<std::int64_t>(form.maps.size()), 0, c.limits.max_map_requests)) return;
  for (std::size_t i = 0; i < form.maps.size(); ++i) {
    spec.maps.push_back(CheckMap(c, form.maps[i], absl::StrCat("outputs.maps[", i, "]")));
  }
}

void CheckTokens(Checker& c) {
  const auto count = static_cast<std::int64_t>(c.request.tokens.size());
  if (count == 0) return;
  if (c.spec.dims.query_tokens != 0 && count != c.spec.dims.query_tokens) {
    c.Report("tokens", absl::StrCat(count, " labels"),
             absl::StrCat("none or ", c.spec.dims.query_tokens, ", one per query token"));
  }
  for (std::size_t i = 0; i < c.request.tokens.size(); ++i) {
    const std::string& token = c.request.tokens[i];
    const bool printable = std::all_of(token.begin(), token.end(), IsPrintable);
    if (!printable || static_cast<std::int64_t>(token.size()) > c.limits.max_string_bytes) {
      c.Report(absl::StrCat("tokens[", i, "]"),
               absl::StrCat(token.size(), printable ? " bytes" : " bytes, not printable"),
               absl::StrCat("at most ", c.limits.max_string_bytes, " printable bytes"));
    }
  }
}

}  // namespace headlight
