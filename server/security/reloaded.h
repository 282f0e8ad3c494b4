// Values made from files that are renewed while we serve: certificates and tokens.
#ifndef HEADLIGHT_SERVER_SECURITY_RELOADED_H_
#define HEADLIGHT_SERVER_SECURITY_RELOADED_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace headlight {

// The contents of each file, at most 1 MiB. Errors: UNAVAILABLE with the path of the first that cannot be read.
absl::StatusOr<std::vector<std::string>> ReadFiles(const std::vector<std::string>& paths);

// What tells one reading of files from another, without keeping what may be secret.
std::string FingerprintOf(const absl::StatusOr<std::vector<std::string>>& contents);

// Thread-safe.
template <typename Value>
class Reloaded {
 public:
  // From the contents of the files, in their order. Errors say what is wrong and repeat nothing of the contents.
  using Make = std::function<absl::StatusOr<Value>(const std::vector<std::string>&)>;

  // Errors: those of ReadFiles and of `make`.
  static absl::StatusOr<std::unique_ptr<Reloaded>> Load(std::vector<std::string> paths, Make make) {
    const auto contents = ReadFiles(paths);
    if (!contents.ok()) return contents.status();
    absl::StatusOr<Value> value = make(*contents);
    if (!value.ok()) return value.status();
    return std::unique_ptr<Reloaded>(
        new Reloaded(std::move(paths), std::move(make), FingerprintOf(contents), *std::move(value)));
  }

  std::shared_ptr<const Value> current() const {
    const absl::MutexLock lock(&mutex_);
    return current_;
  }

  // Looks at the files; to be called now and then. What has changed is taken when it has stood still from one
  // look to the next, for a pair of files may be half written. True: `current` is new. Errors, told once for each
  // change: the files are no good now, and the value from before stays.
  absl::StatusOr<bool> Reload() {
    const auto contents = ReadFiles(paths_);
    const std::string seen = FingerprintOf(contents);
    const absl::MutexLock lock(&mutex_);
    const bool still = seen == std::exchange(seen_, seen);
    if (!still || seen == tried_) return false;
    tried_ = seen;
    if (!contents.ok()) return contents.status();
    absl::StatusOr<Value> value = make_(*contents);
    if (!value.ok()) return value.status();
    current_ = std::make_shared<const Value>(*std::move(value));
    return true;
  }

 private:
  Reloaded(std::vector<std::string> paths, Make make, const std::string& seen, Value value)
      : paths_(std::move(paths)),
        make_(std::move(make)),
        seen_(seen),
        tried_(seen),
        current_(std::make_shared<const Value>(std::move(value))) {}

  const std::vector<std::string> paths_;
  const Make make_;
  mutable absl::Mutex mutex_;
  std::string seen_ ABSL_GUARDED_BY(mutex_);
  std::string tried_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const Value> current_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_RELOADED_H_
