// What a file is known by for ever.
#ifndef HEADLIGHT_SERVER_LAYERS_FILE_ID_H_
#define HEADLIGHT_SERVER_LAYERS_FILE_ID_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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

// The same in steps of at most about a millisecond.
class SteppedDigest {
 public:
  // The parts follow one another; they outlive it.
  explicit SteppedDigest(std::vector<absl::string_view> parts) : parts_(std::move(parts)) {}

  // False: that was the last.
  bool Step();
  std::string Id() { return digest_.Id(); }

 private:
  const std::vector<absl::string_view> parts_;
  std::size_t part_ = 0, done_ = 0;  // of the part
  FileDigest digest_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_FILE_ID_H_
