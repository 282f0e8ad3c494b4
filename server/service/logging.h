// The process's log, on stderr: messages of the server, and lines of calls.
#ifndef HEADLIGHT_SERVER_SERVICE_LOGGING_H_
#define HEADLIGHT_SERVER_SERVICE_LOGGING_H_

#include <string>

#include "absl/time/time.h"
#include "server/telemetry/log_counts.h"

namespace headlight {

// Call once, before anything is logged and before gRPC starts. `level`: debug, info, warn, error or off; lines of calls
// are info. Counts what is logged in `counts`, which is there as long as the process. A thread of its own writes: where
// stderr does not take lines as fast as they come, nobody waits, and the oldest are lost.
void SetUpLog(const std::string& level, LogCounts& counts);

// Writes the line as it is. Thread-safe.
void LogCall(const std::string& line);

// Writes what is left. Nothing is logged afterwards. False: stderr did not take it within `most`, and a thread still
// waits for it; the process can then only be left by _Exit.
bool EndLog(absl::Duration most);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_LOGGING_H_
