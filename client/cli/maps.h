// The maps of an answer, with words for its rows and keys.
#ifndef HEADLIGHT_CLIENT_CLI_MAPS_H_
#define HEADLIGHT_CLIENT_CLI_MAPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/draw.h"
#include "headlight/v1/attention_service.pb.h"

namespace headlight::cli {

// The words of the two sides; a side without words is labelled by number, "3".
struct Words {
  std::vector<std::string> queries;
  std::vector<std::string> keys;
};

// The tokens of a request. In self-attention without a context they name the keys too; elsewhere they say nothing about
// them.
Words WordsOf(const v1::AttendRequest& request);

// What the request alone says about a map, and how much of it is told.
struct MapForm {
  v1::PoolReducer reducer = v1::POOL_REDUCER_UNSPECIFIED;  // of a pooled map; UNSPECIFIED: it is not pooled
  std::int64_t keys = 0;                                   // of a pooled map: how many it is over; 0: not known
  bool sentences = true;
};

// The form in which `request` asked for `map`; a request_index that it has not is taken for a full map.
MapForm FormOf(const v1::AttendRequest& request, const v1::WeightMap& map);

// A full map, a pooled one or column sums (one row, "sum") with labels; those of a pooled map name the first row and
// key of a cell. Brightness is 0 to 1 for a full map of weights, else what the values need. INVALID_ARGUMENT where it
// is none of these, or its data do not fill its shape.
absl::StatusOr<LabelledMap> Label(const v1::WeightMap& map, const Words& words, const MapForm& form = {});

// The rows of `map` that `keep` names, in order. REQUIRES: each below map.rows.size().
LabelledMap OnlyRows(const LabelledMap& map, const std::vector<std::int64_t>& keep);

// A line for each row of a full map or top keys of weights: "it attends most to because (0.80)". At most 64, with a
// line that says so. Empty where the map is neither. INVALID_ARGUMENT where the answer contradicts itself.
absl::StatusOr<std::string> RowSentences(const v1::WeightMap& map, const Words& words, const MapForm& form);

// A map for the terminal: a heading, the drawing (for top keys: a line per row), then the sentences that it has.
// INVALID_ARGUMENT where the answer contradicts itself.
absl::StatusOr<std::string> Show(const v1::WeightMap& map, const Words& words, const Style& style,
                                 const MapForm& form = {});

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_MAPS_H_
