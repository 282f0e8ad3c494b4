// What /proc and the cgroups say. `root` stands for the root of the file system, for tests. A file that is missing or
// says something else reads as nothing. Thread-safe.
#ifndef HEADLIGHT_SERVER_HOST_FILES_H_
#define HEADLIGHT_SERVER_HOST_FILES_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace headlight {

std::string ReadText(const std::string& path);

// At white space.
std::vector<std::string> SplitWords(absl::string_view text);

// The number that a word is.
std::optional<double> Number(const std::vector<std::string>& words, std::size_t index);

// The number after `key` at the start of a line: "MemTotal:" of /proc/meminfo, "btime" of /proc/stat.
std::optional<double> NumberAfter(const std::string& text, absl::string_view key);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_HOST_FILES_H_
