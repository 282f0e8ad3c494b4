// What a file is known by for ever.
#ifndef HEADLIGHT_SERVER_LAYERS_FILE_ID_H_
#define HEADLIGHT_SERVER_LAYERS_FILE_ID_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace headlight {

// SHA-256 over bytes that come one after the other. Not thread-safe.
class FileDigest {
 public:
  FileDigest();
  ~FileDigest();
  FileDigest(const FileDigest&) = delete;
  FileDigest& operator=(const FileDigest&) = delete;

  void Add(absl::string_view bytes);
  // "sha256:" and 64 hexadecimal digits. Once.
  std::string Id();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_FILE_ID_H_
