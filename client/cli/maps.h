// The maps of an answer, with words for its rows and keys.
#ifndef HEADLIGHT_CLIENT_CLI_MAPS_H_
#define HEADLIGHT_CLIENT_CLI_MAPS_H_

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

// A full map with its labels. INVALID_ARGUMENT where it is no full map, or its data do not fill its shape.
absl::StatusOr<LabelledMap> Label(const v1::WeightMap& map, const Words& words);

// The rows of `map` that `keep` names, in order. REQUIRES: each below map.rows.size().
LabelledMap OnlyRows(const LabelledMap& map, const std::vector<std::int64_t>& keep);

// A map for the terminal: a heading, the drawing (for top keys: a line per row), a sentence per row where the map
// holds weights. INVALID_ARGUMENT where the answer contradicts itself.
absl::StatusOr<std::string> Show(const v1::WeightMap& map, const Words& words, const Style& style);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_MAPS_H_
