// Reads Prometheus' text format 0.0.4 strictly, so that tests can ask for series. Escapes in label values are not read:
// none of ours has any.
#ifndef HEADLIGHT_TESTS_TELEMETRY_EXPOSITION_H_
#define HEADLIGHT_TESTS_TELEMETRY_EXPOSITION_H_

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace headlight {

struct Exposition {
  std::map<std::string, std::string> types;  // by family
  std::map<std::string, double> series;      // by "name{label=\"value\",...}", labels sorted

  std::optional<double> At(const std::string& name) const {
    const auto found = series.find(name);
    return found == series.end() ? std::nullopt : std::optional<double>(found->second);
  }
};

// A name as this project writes them: a subset of what the format allows.
inline bool IsName(absl::string_view text) {
  return !text.empty() && text[0] >= 'a' && text[0] <= 'z' &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == absl::string_view::npos;
}

// The family of a sample: histograms add a suffix.
inline std::string FamilyOf(absl::string_view sample, const Exposition& text) {
  for (const char* suffix : {"_bucket", "_sum", "_count"}) {
    absl::string_view base = sample;
    if (!absl::ConsumeSuffix(&base, suffix)) continue;
    const auto found = text.types.find(std::string(base));
    if (found != text.types.end() && found->second == "histogram") return found->first;
  }
  return std::string(sample);
}

// `a="1",b="2"` with its labels sorted. Fails the test where it is malformed.
inline std::string SortedLabels(absl::string_view labels) {
  std::map<std::string, std::string> sorted;
  for (const absl::string_view label : absl::StrSplit(labels, ',', absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(label, '"');
    EXPECT_TRUE(parts.size() == 3 && parts[0].ends_with('=') && parts[2].empty()) << label;
    if (parts.size() != 3) continue;
    EXPECT_TRUE(IsName(absl::StripSuffix(parts[0], "="))) << label;
    EXPECT_TRUE(sorted.emplace(parts[0], "\"" + parts[1] + "\"").second) << label;
  }
  return absl::StrJoin(sorted, ",", absl::PairFormatter(""));
}

// One line `name{labels} value` into `text`.
inline void ReadSample(absl::string_view line, const std::string& family, Exposition& text) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  double value = 0;
  ASSERT_EQ(words.size(), 2U) << line;
  ASSERT_TRUE(absl::SimpleAtod(words[1], &value)) << line;
  const std::vector<absl::string_view> parts = absl::StrSplit(words[0], absl::MaxSplits('{', 1));
  EXPECT_TRUE(IsName(parts[0])) << line;
  EXPECT_EQ(FamilyOf(parts[0], text), family) << line;
  std::string key(parts[0]);
  if (parts.size() == 2) {
    EXPECT_EQ(parts[1].back(), '}') << line;
    absl::StrAppend(&key, "{", SortedLabels(absl::StripSuffix(parts[1], "}")), "}");
  }
  EXPECT_TRUE(text.series.emplace(key, value).second) << "twice: " << line;
}

// Fails the test where the text breaks a rule: HELP, TYPE, then the samples of one family, each family once, no series
// twice.
inline Exposition ParseExposition(absl::string_view text) {
  Exposition result;
  std::set<std::string> helped;
  std::string family;
  EXPECT_TRUE(absl::ConsumeSuffix(&text, "\n") || text.empty());
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 3));
    if (words[0] == "#" && words.size() == 4 && words[1] == "HELP") {
      EXPECT_TRUE(IsName(words[2]) && helped.insert(words[2]).second) << line;
      EXPECT_TRUE(words[3].ends_with('.')) << line;
    } else if (words[0] == "#" && words.size() == 4 && words[1] == "TYPE") {
      family = words[2];
      EXPECT_TRUE(helped.contains(family)) << line;
      EXPECT_TRUE(words[3] == "counter" || words[3] == "gauge" || words[3] == "histogram") << line;
      EXPECT_TRUE(result.types.emplace(family, words[3]).second) << line;
    } else {
      ReadSample(line, family, result);
    }
  }
  return result;
}

}  // namespace headlight

#endif  // HEADLIGHT_TESTS_TELEMETRY_EXPOSITION_H_
