// The explorer's files: part of the program, or in a folder while they are worked on.
#ifndef HEADLIGHT_SERVER_WEB_EXPLORER_H_
#define HEADLIGHT_SERVER_WEB_EXPLORER_H_

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace headlight {

struct WebFile {
  std::string bytes;
  std::string type;  // for Content-Type
};

// Thread-safe.
class Explorer {
 public:
  // `folder`: read anew for each request; empty: what is part of the program.
  explicit Explorer(std::string folder) : folder_(std::move(folder)) {}

  // By a request's path: "/", "/matrix.js". Nothing where there is no such file; names are of letters, digits, "-", "_"
  // and ".", in folders at most one deep, so that nothing outside the folder is reached.
  std::optional<WebFile> Find(absl::string_view path) const;

 private:
  const std::string folder_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_EXPLORER_H_
