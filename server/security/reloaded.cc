#include "server/security/reloaded.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "server/security/digest.h"

namespace headlight {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 20;

absl::StatusOr<std::string> ReadOne(const std::string& path) {
  // Whatever stands there must not make the thread wait that looks at all files: a pipe would.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat what {};
  if (descriptor >= 0 && fstat(descriptor, &what) == 0 && !S_ISREG(what.st_mode)) {
    close(descriptor);
    return absl::UnavailableError(absl::StrCat("cannot read ", path, ": not a regular file"));
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(descriptor < 0 ? nullptr : fdopen(descriptor, "rb"),
                                                             std::fclose);
  std::string contents;
  char chunk[4096];
  std::size_t size = file != nullptr ? sizeof(chunk) : 0;
  while (size == sizeof(chunk) && contents.size() <= kMostBytes) {
    size = std::fread(chunk, 1, sizeof(chunk), file.get());
    contents.append(chunk, size);
  }
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
