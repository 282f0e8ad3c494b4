// Every way in which a call can fail, as absl::Status with a machine-readable reason and, for bad requests, the list
// of violations. The service turns them into google.rpc details; nothing else needs to know how they travel.
#ifndef HEADLIGHT_SERVER_BASE_ERRORS_H_
#define HEADLIGHT_SERVER_BASE_ERRORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace headlight {

// The closed set of reasons, as in the contract's ErrorReason.
enum class ErrorReason : std::uint8_t {
  kInvalidRequest,
  kRequestTooExpensive,
  kResponseTooLarge,
  kLayerNotFound,
  kServerOverloaded,
  kDeadlineExceeded,
  kDraining,
  kNotReady,
  kDrainAborted,
  kNotImplemented,
  kCancelled,
  kInternal,
  kUnauthenticated,
  kPermissionDenied,
  kLayerExists,
};
inline constexpr int kErrorReasons = 15;

// "INVALID_REQUEST", ...
absl::string_view NameOf(ErrorReason reason);

// One thing that is wrong with a request.
struct Violation {
  std::string field;     // path in the contract's names: "query_key_value.key.shape"
  std::string got;       // what was sent
  std::string expected;  // what is allowed
};

// What else a caller should know: the machine-readable half of an error.
struct ErrorDetails {
  ErrorReason reason = ErrorReason::kInternal;
  std::vector<Violation> violations;            // the first kMostViolations
  std::int64_t violation_count = 0;             // all of them
  std::map<std::string, std::string> metadata;  // short keys and values
  double retry_after_seconds = 0;               // 0: none
};

// How many violations are carried; more are only counted.
inline constexpr int kMostViolations = 8;

// Collects violations, so that a caller learns of all at once. Not thread-safe.
class Violations {
 public:
  // Keeps the first kMostViolations, counts all. Texts are cut at 120 bytes.
  void Add(std::string field, std::string got, std::string expected);

  bool empty() const { return count_ == 0; }
  std::int64_t count() const { return count_; }

  // A limit was exceeded rather than a rule broken: changes the reason of ToStatus.
  void AddTooExpensive(std::string field, std::string got, std::string expected);

  // OK where empty, else INVALID_ARGUMENT with reason INVALID_REQUEST, or REQUEST_TOO_EXPENSIVE where nothing but
  // limits was exceeded.
  absl::Status ToStatus() const;

 private:
  std::vector<Violation> kept_;
  std::int64_t count_ = 0;
  std::int64_t too_expensive_ = 0;
};

// A status with details attached.
absl::Status MakeError(absl::StatusCode code, absl::string_view message, const ErrorDetails& details);

// The same status with field paths that begin with `from` beginning with `to`; without violations its message likewise.
absl::Status RenameFields(const absl::Status& status, absl::string_view from, absl::string_view to);

// The details of a status; for one without, the reason follows from its code.
ErrorDetails DetailsOf(const absl::Status& status);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BASE_ERRORS_H_
