// What /statusz says: the server, what is under way, what has happened, and the limits.
#ifndef HEADLIGHT_SERVER_SERVICE_STATUS_PAGE_H_
#define HEADLIGHT_SERVER_SERVICE_STATUS_PAGE_H_

#include <map>
#include <string>

#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/telemetry/metrics.h"

namespace headlight {

// What does not change while the server runs.
struct StatusFacts {
  std::string version, cpu_target;
  std::map<std::string, std::string> libraries;
  std::string addresses;  // as clients reach it
  bool asks_who_calls = false;
  absl::Time started;
};

// HTML. Thread-safe; answers without waiting.
std::string StatusPage(const StatusFacts& facts, const Metrics& metrics, const Limits& limits);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_STATUS_PAGE_H_
