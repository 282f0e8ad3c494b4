#include "server/security/reloaded.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "server/security/digest.h"

namespace headlight {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 20;

absl::StatusOr<std::string> ReadOne(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  std::string contents;
  char chunk[4096];
  std::size_t size = 0;
  while (file != nullptr && contents.size() <= kMostBytes &&
         (size = std::fread(chunk, 1, sizeof(chunk), file.get())) > 0) {
    contents.append(chunk, size);
  }
  // A directory can be opened, but not read.
  if (file == nullptr || std::ferror(file.get()) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
  }
  if (contents.size() > kMostBytes) return absl::UnavailableError(absl::StrCat(path, " is larger than 1 MiB"));
  return contents;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadFiles(const std::vector<std::string>& paths) {
  std::vector<std::string> all;
  for (const std::string& path : paths) {
    absl::StatusOr<std::string> contents = ReadOne(path);
    if (!contents.ok()) return contents.status();
    all.push_back(*std::move(contents));
  }
  return all;
}

std::string FingerprintOf(const absl::StatusOr<std::vector<std::string>>& contents) {
  if (!contents.ok()) return std::string(contents.status().message());
  std::string digests;
  for (const std::string& file : *contents) {
    const Digest digest = DigestOf(file);
    digests.append(digest.begin(), digest.end());
  }
  return digests;
}

}  // namespace headlight
