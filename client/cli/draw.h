// Maps as text: brighter, or denser where colour is off, is more weight.
#ifndef HEADLIGHT_CLIENT_CLI_DRAW_H_
#define HEADLIGHT_CLIENT_CLI_DRAW_H_

#include <cstdint>
#include <string>
#include <vector>

namespace headlight::cli {

// The weights of one head, or what stands in their place, with a label for each row and key.
struct LabelledMap {
  std::vector<std::string> rows;
  std::vector<std::string> keys;
  std::vector<float> weights;  // rows.size() x keys.size(), row-major
  float darkest = 0;           // drawn darkest, as everything below it and what is no number
  float brightest = 1;         // drawn brightest, as everything above it
};

// Sets darkest and brightest to the smallest and the largest finite weight, or to 0 and the largest where `from_zero`.
void FitBrightness(bool from_zero, LabelledMap* map);

// What the terminal can show.
struct Style {
  bool color = false;  // 256-colour escapes
  int width = 100;     // columns
};

// The map as lines: a label per row, then its weights with two digits (as many as fit where all are below 0.01 and
// brightest says so), the keys' labels above. Where the numbers do
// not fit the width, one character a weight without labels of the keys; where that does not fit, or beyond 64 rows,
// a part of it with a line that says so.
std::string DrawMap(const LabelledMap& map, const Style& style);

// "it attends most to because (0.80)", the first key of those with the largest weight; "it attends to nothing" where
// no weight is above 0; "it attends to what is no number" where one is NaN. REQUIRES: row < map.rows.size().
std::string Sentence(const LabelledMap& map, std::int64_t row);

// The same for a row whose largest weight is known.
std::string Sentence(const std::string& row, const std::string& key, double weight);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_DRAW_H_
