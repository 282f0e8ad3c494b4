#include "server/web/explorer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "server/web/explorer_files.h"

namespace headlight {
namespace {

// By how a name ends; what ends otherwise is not served.
std::string TypeOf(absl::string_view name) {
  constexpr std::pair<absl::string_view, absl::string_view> kTypes[] = {{".html", "text/html; charset=utf-8"},
                                                                        {".js", "text/javascript; charset=utf-8"},
                                                                        {".css", "text/css; charset=utf-8"},
                                                                        {".svg", "image/svg+xml"},
                                                                        {".png", "image/png"},
                                                                        {".json", "application/json"}};
  for (const auto& [end, type] : kTypes) {
    if (absl::EndsWith(name, end)) return std::string(type);
  }
  return {};
}

bool IsName(absl::string_view name) {
  const auto part = [](absl::string_view text) {
    return !text.empty() && text[0] != '.' && std::all_of(text.begin(), text.end(), [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
    });
  };
  const std::size_t slash = name.find('/');
  if (slash == absl::string_view::npos) return part(name);
  return part(name.substr(0, slash)) && part(name.substr(slash + 1));
}

}  // namespace

std::optional<WebFile> Explorer::Find(absl::string_view path) const {
  if (!absl::StartsWith(path, "/")) return std::nullopt;
  const std::string name = path == "/" ? "index.html" : std::string(path.substr(1));
  const std::string type = TypeOf(name);
  if (type.empty() || !IsName(name)) return std::nullopt;
  if (folder_.empty()) {
    for (const ExplorerFile& file : ExplorerFiles()) {
      if (name == file.name) return WebFile{std::string(file.begin, file.end), type};
    }
    return std::nullopt;
  }
  // Nothing but files of this very folder: what else stands there could lead elsewhere, or never end.
  const std::filesystem::path place = std::filesystem::path(folder_) / name;
  std::error_code none;
  if (!std::filesystem::is_regular_file(std::filesystem::symlink_status(place, none))) return std::nullopt;
  std::ifstream file(place, std::ios::binary);
  if (!file) return std::nullopt;
  return WebFile{{std::istreambuf_iterator<char>(file), {}}, type};
}

}  // namespace headlight
