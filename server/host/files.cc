#include "server/host/files.h"

#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace headlight {

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> SplitWords(absl::string_view text) {
  return absl::StrSplit(text, absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
}

std::optional<double> Number(const std::vector<std::string>& words, std::size_t index) {
  double value = 0;
  if (index >= words.size() || !absl::SimpleAtod(words[index], &value)) return std::nullopt;
  return value;
}

std::optional<double> NumberAfter(const std::string& text, absl::string_view key) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, absl::StrCat(key, " "))) return Number(SplitWords(line.substr(key.size())), 0);
  }
  return std::nullopt;
}

}  // namespace headlight
