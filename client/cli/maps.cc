#include "client/cli/maps.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/cli/format.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

constexpr std::int64_t kMostLines = 64;

struct TopKey {
  std::uint32_t key = 0;
  float weight = 0;
};

std::string LabelOf(const std::vector<std::string>& words, std::int64_t index) {
  const bool known = index >= 0 && index < static_cast<std::int64_t>(words.size());
  return known ? Printable(words[static_cast<std::size_t>(index)]) : absl::StrCat(index);
}

std::vector<std::string> Labels(const std::vector<std::string>& words, std::int64_t begin, std::int64_t count) {
  std::vector<std::string> labels;
  for (std::int64_t i = 0; i < count; ++i) labels.push_back(LabelOf(words, begin + i));
  return labels;
}

// Cell c of `cells` begins at index floor(c covered / cells). Where it is not known how many are covered: by number.
std::vector<std::string> CellLabels(const std::vector<std::string>& words, std::int64_t begin, std::int64_t cells,
                                    std::int64_t covered) {
  if (covered < cells) return Labels({}, 0, cells);
  const std::int64_t each = covered / cells;
  const std::int64_t rest = covered % cells;
  std::vector<std::string> labels;
  // c covered / cells without the product, which a shape of the server's could make too large.
  for (std::int64_t c = 0; c < cells; ++c) labels.push_back(LabelOf(words, begin + c * each + c * rest / cells));
  return labels;
}

// How many keys the request is over; 0 where it does not say.
std::int64_t KeysOf(const v1::AttendRequest& request) {
  const v1::SelfAttention& self = request.self_attention();
  const bool own_keys = !self.has_context();
  if (request.has_self_attention() && own_keys && self.has_seeded_embeddings())
    return self.seeded_embeddings().tokens();
  const v1::Tensor& keys = request.has_query_key_value() ? request.query_key_value().key()
                           : own_keys                    ? self.embeddings()
                                                         : self.context();
  return keys.shape_size() < 2 ? 0 : keys.shape(keys.shape_size() - 2);
}

bool HoldsWeights(const v1::WeightMap& map) { return map.stage() == v1::MAP_STAGE_WEIGHTS; }

bool IsColumnSums(const v1::WeightMap& map) { return map.has_weights() && map.weights().shape_size() == 1; }

bool IsPooled(const MapForm& form) { return form.reducer != v1::POOL_REDUCER_UNSPECIFIED; }

absl::StatusOr<std::vector<std::vector<TopKey>>> TopKeysByRow(const v1::TopKeysResult& top) {
  if (top.keys_size() != top.weights_size()) return absl::InvalidArgumentError("a map has more keys than weights");
  std::vector<std::vector<TopKey>> rows;
  std::int64_t next = 0;
  for (const std::uint32_t count : top.counts()) {
    const std::int64_t end = next + count;
    if (end > top.keys_size()) return absl::InvalidArgumentError("a map counts more keys than it has");
    std::vector<TopKey>& row = rows.emplace_back();
    for (; next < end; ++next) row.push_back({top.keys(static_cast<int>(next)), top.weights(static_cast<int>(next))});
  }
  return rows;
}

// The lines of the first rows, and one that says how many were left out.
template <typename Line>
std::string FirstLines(std::int64_t rows, const Line& line) {
  std::string text;
  for (std::int64_t r = 0; r < std::min(rows, kMostLines); ++r) absl::StrAppend(&text, line(r), "\n");
  if (rows > kMostLines) absl::StrAppend(&text, "(rows 0..", kMostLines - 1, " of ", rows, ")\n");
  return text;
}

// Each row with its keys: "it: because (0.80), cat (0.12)".
absl::StatusOr<std::string> TopKeysText(const v1::WeightMap& map, const Words& words) {
  const auto rows = TopKeysByRow(map.top_keys());
  if (!rows.ok()) return rows.status();
  return FirstLines(static_cast<std::int64_t>(rows->size()), [&](std::int64_t r) {
    std::vector<std::string> keys;
    for (const TopKey& top : (*rows)[static_cast<std::size_t>(r)]) {
      keys.push_back(absl::StrFormat("%s (%.2f)", LabelOf(words.keys, top.key), top.weight));
    }
    const std::string row = LabelOf(words.queries, map.row_begin() + r);
    return absl::StrCat(row, ": ", keys.empty() ? "nothing" : absl::StrJoin(keys, ", "));
  });
}

absl::StatusOr<std::string> TopKeySentences(const v1::WeightMap& map, const Words& words) {
  const auto rows = TopKeysByRow(map.top_keys());
  if (!rows.ok()) return rows.status();
  return FirstLines(static_cast<std::int64_t>(rows->size()), [&](std::int64_t r) {
    const std::string row = LabelOf(words.queries, map.row_begin() + r);
    const std::vector<TopKey>& keys = (*rows)[static_cast<std::size_t>(r)];
    if (keys.empty()) return absl::StrCat(row, " attends to nothing");
    if (std::isnan(keys.front().weight)) return absl::StrCat(row, " attends to what is no number");
    return Sentence(row, LabelOf(words.keys, keys.front().key), keys.front().weight);
  });
}

std::string Heading(const v1::WeightMap& map, const MapForm& form) {
  std::string text = absl::StrCat("batch ", map.batch(), ", head ", map.head());
  if (!HoldsWeights(map)) {
    const std::string stage = v1::MapStage_Name(map.stage());
    absl::StrAppend(&text, ", ", absl::AsciiStrToLower(absl::StripPrefix(stage, "MAP_STAGE_")));
  }
  if (IsColumnSums(map)) {
    absl::StrAppend(&text, ", sums over rows ", map.row_begin(), "..", map.row_end() - 1);
  } else if (IsPooled(form)) {
    const std::string name = v1::PoolReducer_Name(form.reducer);
    absl::StrAppend(&text, ", pooled: the ", absl::AsciiStrToLower(absl::StripPrefix(name, "POOL_REDUCER_")),
                    " of each cell, named by its first row and key");
  }
  return absl::StrCat(text, "\n");
}

// "cat is attended most (1.65)".
std::string ColumnSentence(const LabelledMap& map) {
  const auto largest = std::max_element(map.weights.begin(), map.weights.end());
  if (!(*largest > 0)) return "";
  return absl::StrFormat("%s is attended most (%.2f)\n",
                         map.keys[static_cast<std::size_t>(largest - map.weights.begin())], *largest);
}

}  // namespace

Words WordsOf(const v1::AttendRequest& request) {
  Words words;
  words.queries.assign(request.tokens().begin(), request.tokens().end());
  if (request.has_self_attention() && !request.self_attention().has_context()) words.keys = words.queries;
  return words;
}

MapForm FormOf(const v1::AttendRequest& request, const v1::WeightMap& map) {
  MapForm form;
  const auto index = static_cast<std::int64_t>(map.request_index());
  if (index >= request.outputs().maps_size()) return form;
  const v1::WeightMaps& asked = request.outputs().maps(static_cast<int>(index));
  if (!asked.has_pooled()) return form;
  form.reducer = asked.pooled().reducer();
  form.keys = asked.has_keys() ? asked.keys().end() - asked.keys().begin() : KeysOf(request);
  return form;
}

absl::StatusOr<LabelledMap> Label(const v1::WeightMap& map, const Words& words, const MapForm& form) {
  if (!map.has_weights() || (map.weights().shape_size() != 2 && !IsColumnSums(map))) {
    return absl::InvalidArgumentError("a map of the answer is neither [rows, keys] nor [keys]");
  }
  absl::StatusOr<std::vector<float>> weights = client::FloatsOf(map.weights());
  if (!weights.ok()) return weights.status();
  LabelledMap labelled;
  labelled.weights = *std::move(weights);
  if (labelled.weights.empty()) return absl::InvalidArgumentError("a map of the answer is empty");
  if (IsColumnSums(map)) {
    labelled.rows = {"sum"};
    labelled.keys = Labels(words.keys, map.key_begin(), map.weights().shape(0));
  } else if (IsPooled(form)) {
    const std::int64_t rows = map.row_end() - map.row_begin();
    labelled.rows = CellLabels(words.queries, map.row_begin(), map.weights().shape(0), rows);
    labelled.keys = CellLabels(words.keys, map.key_begin(), map.weights().shape(1), form.keys);
  } else {
    labelled.rows = Labels(words.queries, map.row_begin(), map.weights().shape(0));
    labelled.keys = Labels(words.keys, map.key_begin(), map.weights().shape(1));
  }
  const bool full_weights = HoldsWeights(map) && !IsColumnSums(map) && !IsPooled(form);
  if (!full_weights) FitBrightness(HoldsWeights(map), &labelled);
  return labelled;
}

LabelledMap OnlyRows(const LabelledMap& map, const std::vector<std::int64_t>& keep) {
  LabelledMap part;
  part.keys = map.keys;
  part.darkest = map.darkest;
  part.brightest = map.brightest;
  const auto keys = static_cast<std::int64_t>(map.keys.size());
  for (const std::int64_t row : keep) {
    part.rows.push_back(map.rows[static_cast<std::size_t>(row)]);
    const auto begin = map.weights.begin() + row * keys;
    part.weights.insert(part.weights.end(), begin, begin + keys);
  }
  return part;
}

absl::StatusOr<std::string> RowSentences(const v1::WeightMap& map, const Words& words, const MapForm& form) {
  if (!HoldsWeights(map) || IsColumnSums(map) || IsPooled(form)) return "";
  if (map.has_top_keys()) return TopKeySentences(map, words);
  const absl::StatusOr<LabelledMap> labelled = Label(map, words);
  if (!labelled.ok()) return labelled.status();
  return FirstLines(static_cast<std::int64_t>(labelled->rows.size()),
                    [&](std::int64_t r) { return Sentence(*labelled, r); });
}

absl::StatusOr<std::string> Show(const v1::WeightMap& map, const Words& words, const Style& style,
                                 const MapForm& form) {
  if (map.has_top_keys()) {
    absl::StatusOr<std::string> lines = TopKeysText(map, words);
    if (!lines.ok()) return lines.status();
    return absl::StrCat(Heading(map, form), *lines);
  }
  const absl::StatusOr<LabelledMap> labelled = Label(map, words, form);
  if (!labelled.ok()) return labelled.status();
  std::string text = absl::StrCat(Heading(map, form), DrawMap(*labelled, style));
  if (!form.sentences) return text;
  if (IsColumnSums(map) && HoldsWeights(map)) absl::StrAppend(&text, ColumnSentence(*labelled));
  const absl::StatusOr<std::string> sentences = RowSentences(map, words, form);
  if (!sentences.ok()) return sentences.status();
  return absl::StrCat(text, *sentences);
}

}  // namespace headlight::cli
