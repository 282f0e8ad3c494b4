// The process's log, on stderr: messages of the server, and lines of calls.
#ifndef HEADLIGHT_SERVER_SERVICE_LOGGING_H_
#define HEADLIGHT_SERVER_SERVICE_LOGGING_H_

#include <string>

#include "server/telemetry/log_counts.h"

namespace headlight {

// Call once, before anything is logged and before gRPC starts. `level`: debug, info, warn, error or off; lines of calls
// are info. Counts what is logged in `counts`, which is there as long as the process.
void SetUpLog(const std::string& level, LogCounts& counts);

// Writes the line as it is. Never waits: where stderr does not take lines as fast as they come, the oldest are lost.
// Thread-safe.
void LogCall(const std::string& line);

// Writes what is left. Nothing is logged afterwards.
void EndLog();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_LOGGING_H_
