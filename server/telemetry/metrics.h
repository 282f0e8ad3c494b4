// Every metric of the server. Label values come from enums and from the build, never from a request; each series exists
// from the start.
#ifndef HEADLIGHT_SERVER_TELEMETRY_METRICS_H_
#define HEADLIGHT_SERVER_TELEMETRY_METRICS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/base/decision.h"
#include "server/base/errors.h"
#include "server/base/limits.h"
#include "server/base/memory.h"
#include "server/base/stage.h"
#include "server/telemetry/log_counts.h"

namespace headlight {

// Label values that this room owns.
enum class Method : std::uint8_t {
  kAttend,
  kAttendStream,
  kPlanAttention,
  kCompareAlgorithms,
  kMergePartials,
  kGetDemo,
  kGetServerInfo,
  kUploadLayer,
  kPruneLayer,
  kListLayers,
  kGetLayer,
  kDeleteLayer,
  kAnalyzeHeads,
  kAblateHeads,
  kAnalyzeCircuits,
  kTraceStack,
  kModelInfer,
};
inline constexpr int kMethods = 17;
// As in the contract.
constexpr absl::string_view NameOf(Method method) {
  constexpr std::array<absl::string_view, kMethods> kNames = {
      "Attend",        "AttendStream", "PlanAttention",   "CompareAlgorithms", "MergePartials", "GetDemo",
      "GetServerInfo", "UploadLayer",  "PruneLayer",      "ListLayers",        "GetLayer",      "DeleteLayer",
      "AnalyzeHeads",  "AblateHeads",  "AnalyzeCircuits", "TraceStack",        "ModelInfer"};
  return kNames[static_cast<std::size_t>(method)];
}
constexpr absl::string_view ServiceOf(Method method) {
  if (method == Method::kModelInfer) return "inference.GRPCInferenceService";
  if (method >= Method::kAnalyzeHeads) return "headlight.v1.AnalysisService";
  return method >= Method::kUploadLayer ? "headlight.v1.LayerService" : "headlight.v1.AttentionService";
}
enum class AlgorithmLabel : std::uint8_t { kNaive, kFlash };
// What became of an upload of layers.
enum class UploadOutcome : std::uint8_t { kStored, kKnown, kRefused, kAborted };
enum class CancelCause : std::uint8_t { kClient, kDeadline };

// The labels of headlight_build_info.
struct BuildInfo {
  std::string version;
  std::string cpu_target;
  std::string onednn;
  std::string grpc;
};

// Values that live elsewhere and are read at each scrape. All are set, can be called from any thread as long as the
// Metrics live, and do not throw.
struct MetricSources {
  const MemoryLedger* memory = nullptr;  // not owned
  const LogCounts* log = nullptr;        // likewise
  std::function<int()> workers;
  std::function<int()> workers_busy;
  std::function<double()> worker_busy_seconds;  // since the start, all workers together
  std::function<bool()> ready;
  std::function<bool()> draining;
  std::function<double()> tls_certificate_expiry;  // seconds since 1970; 0 without TLS
  std::function<std::int64_t()> calls;             // admitted and not yet ended
  std::function<double()> backlog_seconds;
  std::function<std::int64_t()> reserved_bytes;
  std::function<std::int64_t()> layers, layer_bytes;  // that the server holds, and their memory
  // What bounds them; fixed.
  std::int64_t max_calls = 0;
  double max_wait_seconds = 0;
  std::int64_t memory_budget_bytes = 0;  // 0: none
};

// What one successful attention was.
struct AttendRecord {
  AlgorithmLabel algorithm = AlgorithmLabel::kFlash;
  StageTimes seconds;                       // a stage at 0 did not take place and is not observed
  std::int64_t flops = 0;                   // of the plan
  std::int64_t query_tokens = 0;            // batch x Tq
  std::int64_t key_tokens = 0;              // batch x Tk
  std::int64_t sequence_length = 0;         // the longer of Tq and Tk
  std::int64_t weight_map_bytes = 0;        // of maps that the answer carries
  std::int64_t score_grid_saved_bytes = 0;  // the grid of scores that was never held; 0 with naive
};

// What a person wants to know of all calls since the start.
struct CallTotals {
  struct OfMethod {
    Method method;
    std::int64_t started = 0, ok = 0, failed = 0;
    double median_seconds = 0, p99_seconds = 0;  // within the width of a bucket; 0 where none ended
  };
  std::vector<OfMethod> methods;
  // By name, those above 0.
  std::vector<std::pair<std::string, std::int64_t>> refusals, errors;
};

// Thread-safe; recording neither blocks on a scrape for long nor allocates.
class Metrics {
 public:
  Metrics(const BuildInfo& build, const Limits& limits, MetricSources sources);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Once when a call arrives, and once when its status is known, `seconds` later.
  void CallStarted(Method method);
  void CallFinished(Method method, absl::StatusCode code, double seconds);

  // A call ended with an error.
  void Failed(ErrorReason reason);

  // Admission decided about a call.
  void Decided(Decision decision);

  // A call was given up while in `stage`, after so much of it was computed.
  void Cancelled(Stage stage, CancelCause cause, double wasted_flops);

  // Workers let go of a call so long after its client did.
  void CancelTook(double seconds);

  // A call took `ratio` times what was estimated.
  void Estimated(AlgorithmLabel algorithm, double ratio);

  // An upload ended.
  void Uploaded(UploadOutcome outcome);

  // An attention was computed.
  void Attended(const AttendRecord& record);

  CallTotals Totals() const;
  const MetricSources& sources() const;

  // All metrics, with those of the process, in Prometheus' text format 0.0.4.
  std::string Expose() const;

 private:
  struct Table;
  std::unique_ptr<Table> table_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_TELEMETRY_METRICS_H_
