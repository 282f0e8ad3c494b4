#include "server/telemetry/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/text_serializer.h"
#include "server/base/size_class.h"
#include "server/telemetry/process_collector.h"

namespace headlight {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

// A label and its closed set of values.
struct Axis {
  std::string label;
  std::vector<std::string> values;
};
using Axes = std::vector<Axis>;

using Collectables = std::vector<const prometheus::Collectable*>;

using Series = std::vector<prometheus::Labels>;

// A family with one series for every combination of its axes.
template <typename Metric>
class Labelled {
 public:
  // Adds itself to `all`. `args` make each metric.
  template <typename... Args>
  Labelled(Collectables& all, const char* name, const char* help, const Axes& axes, const Args&... args)
      : Labelled(all, name, help, Series(1), axes, args...) {}

  // Likewise, each of `series` being a value of a first axis.
  template <typename... Args>
  Labelled(Collectables& all, const char* name, const char* help, Series series, const Axes& axes, const Args&... args)
      : family_(name, help, {}), sizes_{series.size()} {
    for (const Axis& axis : axes) {
      Series longer;
      for (const prometheus::Labels& combination : series) {
        for (const std::string& value : axis.values) {
          longer.push_back(combination);
          longer.back()[axis.label] = value;
        }
      }
      series = std::move(longer);
      sizes_.push_back(axis.values.size());
    }
    for (const prometheus::Labels& labels : series) metrics_.push_back(&family_.Add(labels, args...));
    all.push_back(&family_);
  }

  // The series at these values of the last axes; the axes before them have one value.
  template <typename... Index>
  Metric& At(Index... index) {
    std::size_t cell = 0;
    [[maybe_unused]] std::size_t axis = sizes_.size() - sizeof...(index);
    ((cell = cell * sizes_[axis++] + static_cast<std::size_t>(index)), ...);
    return *metrics_[cell];
  }

 private:
  prometheus::Family<Metric> family_;
  std::vector<std::size_t> sizes_;
  std::vector<Metric*> metrics_;
};
using Counters = Labelled<prometheus::Counter>;
using Gauges = Labelled<prometheus::Gauge>;
using Histograms = Labelled<prometheus::Histogram>;
using Edges = prometheus::Histogram::BucketBoundaries;

// A single value that is read at the scrape.
struct Scraped {
  const char* name;
  const char* help;
  MetricType type;
  std::function<double()> read;
};

template <typename Enum>
std::vector<std::string> NamesOf(int count) {
  std::vector<std::string> names;
  names.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) names.push_back(absl::AsciiStrToLower(NameOf(static_cast<Enum>(i))));
  return names;
}

std::vector<std::string> NamesOfLimits(const Limits& limits) {
  std::vector<std::string> names;
  for (const auto& [name, value] : limits.Table()) names.emplace_back(name);
  return names;
}

// One for each method, of the service that has it.
Series OfCalls() {
  Series series;
  for (int i = 0; i < kMethods; ++i) {
    const auto method = static_cast<Method>(i);
    series.push_back({{"grpc_type", method == Method::kUploadLayer    ? "client_stream"
                                    : method == Method::kAttendStream ? "bidi_stream"
                                                                      : "unary"},
                      {"grpc_service", std::string(ServiceOf(method))},
                      {"grpc_method", std::string(NameOf(method))}});
  }
  return series;
}

Axes OfCodes() {
  return {{"grpc_code",
           {"OK", "Cancelled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
            "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
            "Internal", "Unavailable", "DataLoss", "Unauthenticated"}}};
}
constexpr int kCodes = 17;

// A refusal by its reason.
Series OfDecisions() {
  Series series{{{"decision", "admitted"}, {"reason", "none"}}};
  for (int i = 1; i < kDecisions; ++i) {
    series.push_back({{"decision", "refused"}, {"reason", std::string(NameOf(static_cast<Decision>(i)))}});
  }
  return series;
}

Axes OfStagesAndCauses() { return {{"stage", NamesOf<Stage>(kStages)}, {"cause", {"client", "deadline"}}}; }

Axis OfAlgorithms() { return {"algorithm", {"naive", "flash"}}; }

// From half a millisecond to the longest call; with the edges at which waiting and refusing are judged, 10 and 20 ms.
Edges Seconds() { return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}; }
// Around 1: calls that took what was estimated.
Edges Ratios() { return {0.1, 0.25, 0.5, 0.8, 0.9, 1.1, 1.25, 2, 4, 10}; }
Edges Lengths() { return {16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}; }
Edges Flops() { return {1e6, 1e7, 1e8, 1e9, 5e9, 2e10, 1e11, 5e11, 2e12, 2e13}; }

enum class Side : std::uint8_t { kQuery, kKey };

std::int64_t CountOf(const prometheus::Counter& counter) { return static_cast<std::int64_t>(counter.Value()); }

// Between the edges of its bucket as Prometheus' histogram_quantile does it; above the last edge, that edge.
double QuantileOf(const prometheus::ClientMetric::Histogram& histogram, double share) {
  const double rank = share * static_cast<double>(histogram.sample_count);
  double edge = 0, below = 0;
  for (const prometheus::ClientMetric::Bucket& bucket : histogram.bucket) {
    const auto count = static_cast<double>(bucket.cumulative_count);
    if (count >= rank && count > below && std::isfinite(bucket.upper_bound)) {
      return edge + (bucket.upper_bound - edge) * (rank - below) / (count - below);
    }
    if (std::isfinite(bucket.upper_bound)) edge = bucket.upper_bound;
    below = count;
  }
  return histogram.sample_count == 0 ? 0 : edge;
}

MetricFamily OfLog(const LogCounts& counts) {
  MetricFamily family{"headlight_log_messages_total", "Messages of the log, by severity.", MetricType::Counter, {}};
  for (int i = 0; i < kSeverities; ++i) {
    const auto severity = static_cast<Severity>(i);
    prometheus::ClientMetric metric;
    metric.label = {{"level", std::string(NameOf(severity))}};
    metric.counter.value = static_cast<double>(counts.Of(severity));
    family.metric.push_back(std::move(metric));
  }
  return family;
}

void Append(std::vector<MetricFamily> more, std::vector<MetricFamily>& families) {
  std::move(more.begin(), more.end(), std::back_inserter(families));
}

}  // namespace

// The one place that names a metric; those of the process are in process_collector.cc.
struct Metrics::Table {
  Table(const BuildInfo& of_build, const Limits& of_limits, MetricSources of_sources)
      : build(of_build), limits(of_limits), sources(std::move(of_sources)) {}

  const BuildInfo build;
  const Limits limits;
  const MetricSources sources;
  Collectables all;

  Counters started{all, "grpc_server_started_total", "Calls started.", OfCalls(), Axes{}};
  Counters handled{all, "grpc_server_handled_total", "Calls ended, by status.", OfCalls(), OfCodes()};
  Histograms handling{
      all, "grpc_server_handling_seconds", "Time from a call's arrival to its status.", OfCalls(), Axes{}, Seconds()};

  Histograms stage{all, "headlight_stage_seconds", "Time in one stage of a call.",
                   Axes{{"stage", NamesOf<Stage>(kStages)}}, Seconds()};
  Histograms attend{all, "headlight_attend_seconds", "Time of computing one attention: project, attend and maps.",
                    Axes{OfAlgorithms(), {"size_class", {"small", "medium", "large"}}}, Seconds()};
  Counters tokens{all, "headlight_tokens_total", "Tokens attended, batch x length.", Axes{{"side", {"query", "key"}}}};
  Counters flops{all, "headlight_flops_total", "Floating-point operations computed.", Axes{OfAlgorithms()}};
  Counters map_bytes{all, "headlight_weight_map_bytes_total", "Bytes of weight maps in answers.", Axes{}};
  Counters grid_saved{all, "headlight_score_grid_saved_bytes_total", "Bytes of score grids that were never held.",
                      Axes{}};
  Histograms sequence_length{all, "headlight_sequence_length", "The longer of queries and keys, in tokens.", Axes{},
                             Lengths()};
  Histograms request_flops{all, "headlight_request_flops", "Floating-point operations of one attention.", Axes{},
                           Flops()};

  Counters errors{all, "headlight_errors_total", "Calls that failed, by reason.",
                  Axes{{"reason", NamesOf<ErrorReason>(kErrorReasons)}}};
  Counters cancelled{all, "headlight_cancelled_total", "Calls given up, by the stage they were in and by whom.",
                     OfStagesAndCauses()};
  Counters wasted{all, "headlight_wasted_flops_total", "Floating-point operations computed for calls given up.",
                  OfStagesAndCauses()};
  Histograms cancel_latency{all, "headlight_cancel_latency_seconds",
                            "Time from a client's cancel to the end of its call's work.", Axes{}, Seconds()};
  Counters admission{all, "headlight_admission_total", "Calls admitted, and refused by reason.", OfDecisions(), Axes{}};
  Histograms queue_wait{all, "headlight_queue_wait_seconds", "Time from admission to the first unit of work.", Axes{},
                        Seconds()};
  Histograms estimate_ratio{all, "headlight_cost_estimate_ratio", "What calls took, divided by what was estimated.",
                            Axes{OfAlgorithms()}, Ratios()};

  Counters uploads{all, "headlight_layer_uploads_total", "Uploads of layers that ended, by outcome.",
                   Axes{{"outcome", {"stored", "known", "refused", "aborted"}}}};

  Gauges build_info{all, "headlight_build_info", "What runs here, always 1.",
                    Axes{{"version", {build.version}},
                         {"cpu_target", {build.cpu_target}},
                         {"onednn", {build.onednn}},
                         {"grpc", {build.grpc}}}};
  Gauges limit{all, "headlight_limit", "The largest problem that one call may bring.",
               Axes{{"name", NamesOfLimits(limits)}}};

  std::vector<Scraped> scraped{
      {"headlight_workspace_bytes", "Workspace held by calls.", MetricType::Gauge,
       [this] { return static_cast<double>(sources.memory->now()); }},
      {"headlight_workspace_peak_bytes", "Most workspace held at once since the start.", MetricType::Gauge,
       [this] { return static_cast<double>(sources.memory->peak()); }},
      {"headlight_workers", "Workers that compute.", MetricType::Gauge, sources.workers},
      {"headlight_workers_busy", "Workers that are computing.", MetricType::Gauge, sources.workers_busy},
      {"headlight_worker_busy_seconds_total", "Time that workers spent computing.", MetricType::Counter,
       sources.worker_busy_seconds},
      {"headlight_queue_length", "Calls admitted that have not ended.", MetricType::Gauge,
       [this] { return static_cast<double>(sources.calls()); }},
      {"headlight_queue_length_limit", "Most calls that are admitted at once.", MetricType::Gauge,
       [this] { return static_cast<double>(sources.max_calls); }},
      {"headlight_backlog_seconds", "Time that the workers need to end the calls admitted.", MetricType::Gauge,
       sources.backlog_seconds},
      {"headlight_backlog_seconds_limit", "Longest wait for which a call is admitted.", MetricType::Gauge,
       [this] { return sources.max_wait_seconds; }},
      {"headlight_memory_reserved_bytes", "Memory that the calls admitted may take.", MetricType::Gauge,
       [this] { return static_cast<double>(sources.reserved_bytes()); }},
      {"headlight_memory_budget_bytes", "Memory that all calls together may take; 0: no bound.", MetricType::Gauge,
       [this] { return static_cast<double>(sources.memory_budget_bytes); }},
      {"headlight_layers", "Layers that the server holds.", MetricType::Gauge,
       [this] { return static_cast<double>(sources.layers()); }},
      {"headlight_layer_bytes", "Memory of layers and stacks that the server holds.", MetricType::Gauge,
       [this] { return static_cast<double>(sources.layer_bytes()); }},
      {"headlight_ready", "Whether calls are taken, 1 or 0.", MetricType::Gauge, sources.ready},
      {"headlight_draining", "Whether the server was told to stop, 1 or 0.", MetricType::Gauge, sources.draining},
      {"headlight_tls_certificate_expiry_timestamp_seconds", "When the TLS certificate in use expires; 0 without TLS.",
       MetricType::Gauge, sources.tls_certificate_expiry},
  };
  ProcessCollector process;
};

Metrics::Metrics(const BuildInfo& build, const Limits& limits, MetricSources sources)
    : table_(std::make_unique<Table>(build, limits, std::move(sources))) {
  table_->build_info.At().Set(1);
  int row = 0;
  for (const auto& [name, value] : limits.Table()) table_->limit.At(row++).Set(static_cast<double>(value));
}

Metrics::~Metrics() = default;

const MetricSources& Metrics::sources() const { return table_->sources; }

void Metrics::CallStarted(Method method) { table_->started.At(method).Increment(); }

void Metrics::CallFinished(Method method, absl::StatusCode code, double seconds) {
  // A status may carry a number that no code has.
  const auto number = static_cast<int>(code);
  const bool known = number >= 0 && number < kCodes;
  table_->handled.At(method, known ? code : absl::StatusCode::kUnknown).Increment();
  table_->handling.At(method).Observe(seconds);
}

void Metrics::Failed(ErrorReason reason) { table_->errors.At(reason).Increment(); }

void Metrics::Decided(Decision decision) { table_->admission.At(decision).Increment(); }

void Metrics::Cancelled(Stage stage, CancelCause cause, double wasted_flops) {
  table_->cancelled.At(stage, cause).Increment();
  table_->wasted.At(stage, cause).Increment(wasted_flops);
}

void Metrics::CancelTook(double seconds) { table_->cancel_latency.At().Observe(seconds); }

void Metrics::Estimated(AlgorithmLabel algorithm, double ratio) { table_->estimate_ratio.At(algorithm).Observe(ratio); }

void Metrics::Uploaded(UploadOutcome outcome) { table_->uploads.At(outcome).Increment(); }

void Metrics::Attended(const AttendRecord& record) {
  for (int i = 0; i < kStages; ++i) {
    const auto stage = static_cast<Stage>(i);
    if (record.seconds[stage] > 0) table_->stage.At(stage).Observe(record.seconds[stage]);
  }
  table_->queue_wait.At().Observe(record.seconds[Stage::kQueue]);
  const double computing =
      record.seconds[Stage::kProject] + record.seconds[Stage::kAttend] + record.seconds[Stage::kMaps];
  const auto flops = static_cast<double>(record.flops);
  table_->attend.At(record.algorithm, SizeClassOf(record.flops)).Observe(computing);
  table_->tokens.At(Side::kQuery).Increment(static_cast<double>(record.query_tokens));
  table_->tokens.At(Side::kKey).Increment(static_cast<double>(record.key_tokens));
  table_->flops.At(record.algorithm).Increment(flops);
  table_->map_bytes.At().Increment(static_cast<double>(record.weight_map_bytes));
  table_->grid_saved.At().Increment(static_cast<double>(record.score_grid_saved_bytes));
  table_->sequence_length.At().Observe(static_cast<double>(record.sequence_length));
  table_->request_flops.At().Observe(flops);
}

CallTotals Metrics::Totals() const {
  CallTotals totals;
  Table& table = *table_;
  for (int i = 0; i < kMethods; ++i) {
    const auto method = static_cast<Method>(i);
    CallTotals::OfMethod of{method};
    of.started = CountOf(table.started.At(method));
    of.ok = CountOf(table.handled.At(method, absl::StatusCode::kOk));
    for (int code = 1; code < kCodes; ++code) {
      of.failed += CountOf(table.handled.At(method, static_cast<absl::StatusCode>(code)));
    }
    const prometheus::ClientMetric::Histogram seconds = table.handling.At(method).Collect().histogram;
    of.median_seconds = QuantileOf(seconds, 0.5);
    of.p99_seconds = QuantileOf(seconds, 0.99);
    totals.methods.push_back(of);
  }
  for (int i = 1; i < kDecisions; ++i) {
    const auto decision = static_cast<Decision>(i);
    const std::int64_t count = CountOf(table.admission.At(decision));
    if (count > 0) totals.refusals.emplace_back(NameOf(decision), count);
  }
  for (int i = 0; i < kErrorReasons; ++i) {
    const auto reason = static_cast<ErrorReason>(i);
    const std::int64_t count = CountOf(table.errors.At(reason));
    if (count > 0) totals.errors.emplace_back(NameOf(reason), count);
  }
  return totals;
}

std::string Metrics::Expose() const {
  std::vector<MetricFamily> families;
  for (const prometheus::Collectable* family : table_->all) Append(family->Collect(), families);
  for (const Scraped& scraped : table_->scraped) {
    prometheus::ClientMetric metric;
    (scraped.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = scraped.read();
    families.push_back({scraped.name, scraped.help, scraped.type, {metric}});
  }
  families.push_back(OfLog(*table_->sources.log));
  Append(table_->process.Collect(), families);
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace headlight
