#include "client/cli/draw.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "client/cli/format.h"

namespace headlight::cli {
namespace {

constexpr std::size_t kMostRows = 64;
constexpr int kMostRowLabel = 16;
constexpr int kMostKeyLabel = 8;
constexpr int kWeightWidth = 4;  // "0.80"
constexpr int kScoreWidth = 7;   // "-123.45", "1.2e-05"

// Where a weight stands between darkest (0) and brightest (1); what lies outside, infinities and NaN are brought in.
float Brightness(float weight, const LabelledMap& map) {
  if (!(weight > map.darkest)) return 0.0F;
  if (weight >= map.brightest) return 1.0F;
  return (weight - map.darkest) / (map.brightest - map.darkest);
}

// `text` on a grey of this brightness, in a colour that can be read on it.
std::string Shaded(absl::string_view text, float brightness) {
  const int level = static_cast<int>(std::lround(brightness * 23));
  return absl::StrFormat("\x1b[48;5;%d;38;5;%dm%s\x1b[0m", 232 + level, level < 12 ? 255 : 232, text);
}

int WidestOf(const std::vector<std::string>& labels, std::size_t count, int most) {
  int widest = 0;
  for (std::size_t i = 0; i < count; ++i) widest = std::max(widest, Width(labels[i]));
  return std::min(widest, most);
}

// Whether two digits after the point would show nothing but zeros.
bool IsFaint(const LabelledMap& map) { return map.darkest >= 0 && map.brightest < 0.01F; }

int NumberWidth(const LabelledMap& map) {
  const bool weights =
      std::all_of(map.weights.begin(), map.weights.end(), [](float weight) { return weight >= 0 && weight <= 1.001F; });
  return weights && !IsFaint(map) ? kWeightWidth : kScoreWidth;
}

// In kScoreWidth columns where that can be.
std::string Number(float weight, bool faint) {
  if (faint) return absl::StrFormat("%.2g", weight);
  std::string text = absl::StrFormat("%.2f", weight);
  if (text.size() > kScoreWidth) text = absl::StrFormat("%.0f", weight);
  return text.size() > kScoreWidth ? absl::StrFormat("%.0e", weight) : text;
}

std::string NumberCell(float weight, int cell, const LabelledMap& map, const Style& style) {
  const std::string text = absl::StrCat(" ", Fit(Number(weight, IsFaint(map)), cell - 1, Pad::kLeft));
  return style.color ? Shaded(text, Brightness(weight, map)) : text;
}

std::string BlockCell(float weight, const LabelledMap& map, const Style& style) {
  constexpr absl::string_view kDensity = " .:-=+*#%@";
  const float brightness = Brightness(weight, map);
  if (style.color) return Shaded(" ", brightness);
  return std::string(1, kDensity[static_cast<std::size_t>(std::lround(brightness * 9))]);
}

}  // namespace

void FitBrightness(bool from_zero, LabelledMap* map) {
  float smallest = std::numeric_limits<float>::infinity();
  float largest = -smallest;
  for (const float weight : map->weights) {
    if (!std::isfinite(weight)) continue;
    smallest = std::min(smallest, weight);
    largest = std::max(largest, weight);
  }
  if (smallest > largest) return;
  map->darkest = from_zero ? 0.0F : smallest;
  map->brightest = largest;
}

std::string DrawMap(const LabelledMap& map, const Style& style) {
  const std::size_t rows = std::min(map.rows.size(), kMostRows);
  const int label = WidestOf(map.rows, rows, kMostRowLabel);
  const int cell = std::max(WidestOf(map.keys, map.keys.size(), kMostKeyLabel), NumberWidth(map)) + 1;
  const auto room = static_cast<std::size_t>(std::max(style.width - label - 1, 1));
  const bool numbers = map.keys.size() <= room / static_cast<std::size_t>(cell);
  const std::size_t keys = std::min(map.keys.size(), room);

  std::string text;
  if (numbers) {
    std::string line(static_cast<std::size_t>(label), ' ');
    for (std::size_t k = 0; k < keys; ++k) absl::StrAppend(&line, " ", Fit(map.keys[k], cell - 1, Pad::kLeft));
    absl::StrAppend(&text, line, "\n");
  }
  for (std::size_t r = 0; r < rows; ++r) {
    absl::StrAppend(&text, Fit(map.rows[r], label, Pad::kLeft), numbers ? "" : " ");
    for (std::size_t k = 0; k < keys; ++k) {
      const float weight = map.weights[r * map.keys.size() + k];
      absl::StrAppend(&text, numbers ? NumberCell(weight, cell, map, style) : BlockCell(weight, map, style));
    }
    absl::StrAppend(&text, "\n");
  }
  if (rows < map.rows.size() || keys < map.keys.size()) {
    absl::StrAppend(&text, "(rows 0..", rows - 1, " of ", map.rows.size(), ", keys 0..", keys - 1, " of ",
                    map.keys.size(), ")\n");
  }
  return text;
}

std::string Sentence(const LabelledMap& map, std::int64_t row) {
  const auto begin = map.weights.begin() + row * static_cast<std::int64_t>(map.keys.size());
  const auto largest = std::max_element(begin, begin + static_cast<std::int64_t>(map.keys.size()));
  const std::string& label = map.rows[static_cast<std::size_t>(row)];
  if (std::any_of(begin, begin + static_cast<std::int64_t>(map.keys.size()), [](float x) { return std::isnan(x); })) {
    return absl::StrCat(label, " attends to what is no number");
  }
  if (map.keys.empty() || !(*largest > 0)) return absl::StrCat(label, " attends to nothing");
  return Sentence(label, map.keys[static_cast<std::size_t>(largest - begin)], *largest);
}

std::string Sentence(const std::string& row, const std::string& key, double weight) {
  return absl::StrFormat("%s attends most to %s (%.2f)", row, key, weight);
}

}  // namespace headlight::cli
