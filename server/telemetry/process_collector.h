// What the kernel says about this process: the standard process_* metrics, and the limits of its cgroups.
#ifndef HEADLIGHT_SERVER_TELEMETRY_PROCESS_COLLECTOR_H_
#define HEADLIGHT_SERVER_TELEMETRY_PROCESS_COLLECTOR_H_

#include <string>
#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace headlight {

// Reads /proc/self and cgroups (version 2, then version 1) at each scrape. What cannot be read, and a limit that is
// not set, is left out. Thread-safe.
class ProcessCollector : public prometheus::Collectable {
 public:
  // `root` is the directory that holds proc and sys.
  explicit ProcessCollector(std::string root = "/");

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  std::string root_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_TELEMETRY_PROCESS_COLLECTOR_H_
