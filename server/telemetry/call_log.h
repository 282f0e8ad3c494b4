// What the log says of calls: one line of JSON for each that ended, within a rate.
#ifndef HEADLIGHT_SERVER_TELEMETRY_CALL_LOG_H_
#define HEADLIGHT_SERVER_TELEMETRY_CALL_LOG_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/base/errors.h"
#include "server/base/stage.h"
#include "server/telemetry/metrics.h"

namespace headlight {

// The sizes of an attention, as the plan has them; never anything of a tensor's elements.
struct CallShape {
  std::int64_t batch = 0, query_heads = 0, key_value_heads = 0;
  std::int64_t query_tokens = 0, key_tokens = 0;
  std::int64_t head_size = 0, value_head_size = 0;
};

// One call that ended. Texts are printable ASCII.
struct CallRecord {
  Method method = Method::kAttend;
  std::string request_id;
  std::string traceparent;  // empty: the caller sent none
  absl::StatusCode code = absl::StatusCode::kOk;
  std::optional<ErrorReason> reason;                   // of a call that failed
  double seconds = 0;                                  // from its arrival to its status
  std::optional<CallShape> shape;                      // what failed before it was planned has none
  absl::string_view algorithm;                         // "flash", "naive", "both"; empty: computed nothing
  StageTimes stage_seconds;                            // 0: did not take place
  std::int64_t request_bytes = 0, response_bytes = 0;  // of the messages
};

// The line, without its end. `suppressed`: how many calls before it are in no line.
std::string ToJson(const CallRecord& record, absl::Time now, std::int64_t suppressed);

// Thread-safe.
class CallLog {
 public:
  using Write = std::function<void(const std::string& line)>;

  // At most `lines_per_second` lines of calls that ended well, and as many of others: a flood of either hides nothing
  // of the other. 0: none. `write` is called from any thread, and does not wait.
  CallLog(int lines_per_second, Write write);

  // Calls `describe` and writes what it returns, or counts the call as suppressed. `well`: it ended with OK.
  void Ended(bool well, const std::function<CallRecord()>& describe);

 private:
  // Lines that may be written now: a second's worth at most, filled up as time goes.
  struct Allowance {
    double lines = 0;
    absl::Time filled = absl::InfinitePast();
    std::int64_t suppressed = 0;  // since the last line
  };

  const double lines_per_second_;
  const Write write_;
  absl::Mutex mutex_;
  Allowance well_ ABSL_GUARDED_BY(mutex_), failed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_TELEMETRY_CALL_LOG_H_
