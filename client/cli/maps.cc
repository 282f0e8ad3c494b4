#include "client/cli/maps.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/format.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

constexpr std::int64_t kMostLines = 64;

std::string LabelOf(const std::vector<std::string>& words, std::int64_t index) {
  const bool known = index >= 0 && index < static_cast<std::int64_t>(words.size());
  return known ? Printable(words[static_cast<std::size_t>(index)]) : absl::StrCat(index);
}

std::vector<std::string> Labels(const std::vector<std::string>& words, std::int64_t begin, std::int64_t count) {
  std::vector<std::string> labels;
  for (std::int64_t i = 0; i < count; ++i) labels.push_back(LabelOf(words, begin + i));
  return labels;
}

std::string Sentences(const LabelledMap& map) {
  std::string text;
  const auto rows = static_cast<std::int64_t>(map.rows.size());
  for (std::int64_t r = 0; r < std::min(rows, kMostLines); ++r) absl::StrAppend(&text, Sentence(map, r), "\n");
  return text;
}

// Each row with its keys: "it: because (0.80), cat (0.12)".
absl::StatusOr<std::string> TopKeysText(const v1::WeightMap& map, const Words& words) {
  const v1::TopKeysResult& top = map.top_keys();
  if (top.keys_size() != top.weights_size()) return absl::InvalidArgumentError("a map has more keys than weights");
  std::string text;
  std::int64_t next = 0;
  for (int r = 0; r < top.counts_size(); ++r) {
    const std::int64_t end = next + top.counts(r);
    if (end > top.keys_size()) return absl::InvalidArgumentError("a map counts more keys than it has");
    std::vector<std::string> keys;
    for (std::int64_t i = next; i < end; ++i) {
      const int at = static_cast<int>(i);
      keys.push_back(absl::StrFormat("%s (%.2f)", LabelOf(words.keys, top.keys(at)), top.weights(at)));
    }
    if (r < kMostLines) {
      const std::string row = LabelOf(words.queries, map.row_begin() + r);
      absl::StrAppend(&text, row, ": ", keys.empty() ? "nothing" : absl::StrJoin(keys, ", "), "\n");
    }
    next = end;
  }
  return text;
}

}  // namespace

absl::StatusOr<LabelledMap> Label(const v1::WeightMap& map, const Words& words) {
  if (!map.has_weights() || map.weights().shape_size() != 2) {
    return absl::InvalidArgumentError("a map of the answer is not [rows, keys]");
  }
  absl::StatusOr<std::vector<float>> weights = client::FloatsOf(map.weights());
  if (!weights.ok()) return weights.status();
  LabelledMap labelled;
  labelled.weights = *std::move(weights);
  if (labelled.weights.empty()) return absl::InvalidArgumentError("a map of the answer is empty");
  labelled.rows = Labels(words.queries, map.row_begin(), map.weights().shape(0));
  labelled.keys = Labels(words.keys, map.key_begin(), map.weights().shape(1));
  return labelled;
}

LabelledMap OnlyRows(const LabelledMap& map, const std::vector<std::int64_t>& keep) {
  LabelledMap part;
  part.keys = map.keys;
  const auto keys = static_cast<std::int64_t>(map.keys.size());
  for (const std::int64_t row : keep) {
    part.rows.push_back(map.rows[static_cast<std::size_t>(row)]);
    const auto begin = map.weights.begin() + row * keys;
    part.weights.insert(part.weights.end(), begin, begin + keys);
  }
  return part;
}

absl::StatusOr<std::string> Show(const v1::WeightMap& map, const Words& words, const Style& style) {
  const bool weights = map.stage() == v1::MAP_STAGE_WEIGHTS;
  const std::string stage = weights ? "" : absl::StrCat(", ", v1::MapStage_Name(map.stage()));
  const std::string heading = absl::StrCat("batch ", map.batch(), ", head ", map.head(), stage, "\n");
  if (map.has_top_keys()) {
    absl::StatusOr<std::string> lines = TopKeysText(map, words);
    if (!lines.ok()) return lines.status();
    return absl::StrCat(heading, *lines);
  }
  const absl::StatusOr<LabelledMap> labelled = Label(map, words);
  if (!labelled.ok()) return labelled.status();
  return absl::StrCat(heading, DrawMap(*labelled, style), weights ? Sentences(*labelled) : "");
}

}  // namespace headlight::cli
