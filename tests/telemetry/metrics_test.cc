#include "server/telemetry/metrics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/telemetry/exposition.h"

namespace headlight {
namespace {

class MetricsTest : public testing::Test {
 protected:
  Exposition Scrape() const { return ParseExposition(metrics_.Expose()); }

  MemoryLedger ledger_;
  LogCounts log_;
  int busy_ = 0;
  double busy_seconds_ = 0;
  bool ready_ = false;
  bool draining_ = false;
  std::int64_t calls_ = 0;
  double tls_certificate_expiry_ = 0;
  Metrics metrics_{{"0.1.0", "avx2", "2.6.0", "1.51.1"},
                   Limits(),
                   {.memory = &ledger_,
                    .log = &log_,
                    .workers = [] { return 8; },
                    .workers_busy = [this] { return busy_; },
                    .worker_busy_seconds = [this] { return busy_seconds_; },
                    .ready = [this] { return ready_; },
                    .draining = [this] { return draining_; },
                    .tls_certificate_expiry = [this] { return tls_certificate_expiry_; },
                    .calls = [this] { return calls_; },
                    .backlog_seconds = [this] { return static_cast<double>(calls_) / 2; },
                    .reserved_bytes = [this] { return 100 * calls_; },
                    .layers = [this] { return 3 * calls_; },
                    .layer_bytes = [this] { return 4096 * calls_; },
                    .max_calls = 1024,
                    .max_wait_seconds = 1.5,
                    .memory_budget_bytes = 4096}};
};

std::string Call(const std::string& name, const std::string& method, const std::string& code = "") {
  return name + "{" + (code.empty() ? "" : "grpc_code=\"" + code + "\",") + "grpc_method=\"" + method +
         "\",grpc_service=\"headlight.v1.AttentionService\",grpc_type=\"unary\"}";
}

// What must not be at 0 from the start.
bool IsConstant(const std::string& series) {
  for (const char* prefix : {"process_", "headlight_cgroup_", "headlight_limit{", "headlight_build_info{"}) {
    if (series.starts_with(prefix)) return true;
  }
  return series == "headlight_workers" || series == "headlight_memory_budget_bytes" || series.ends_with("_limit");
}

TEST_F(MetricsTest, EverySeriesStartsAtZero) {
  for (const auto& [series, value] : Scrape().series) {
    EXPECT_TRUE(value == 0 || IsConstant(series)) << series;
  }
}

TEST_F(MetricsTest, StaysBelowTheBoundOfSeries) {
  const Exposition before = Scrape();
  EXPECT_LE(before.series.size(), 1500U);
  AttendRecord record;
  record.seconds[Stage::kAttend] = 1;
  metrics_.Attended(record);
  metrics_.CallFinished(Method::kAttend, absl::StatusCode::kOk, 1);
  EXPECT_EQ(Scrape().series.size(), before.series.size());
}

TEST_F(MetricsTest, NamesFollowTheRules) {
  for (const auto& [name, type] : Scrape().types) {
    EXPECT_EQ(name.ends_with("_total"), type == "counter") << name;
    EXPECT_TRUE(name.starts_with("headlight_") || name.starts_with("grpc_server_") || name.starts_with("process_"))
        << name;
    for (const char* unit : {"_ms", "_milliseconds", "_kb", "_mb", "_percent"})
      EXPECT_FALSE(name.ends_with(unit)) << name;
  }
}

TEST_F(MetricsTest, PleasesPromtool) {
  // NOLINTNEXTLINE(bugprone-command-processor): promtool, of all that is on PATH.
  if (std::system("command -v promtool >/dev/null 2>&1") != 0) GTEST_SKIP() << "promtool is not on PATH";
  const std::string path = testing::TempDir() + "/metrics." + std::to_string(getpid()) + ".txt";
  std::ofstream(path) << metrics_.Expose();
  // NOLINTNEXTLINE(bugprone-command-processor)
  EXPECT_EQ(std::system(("promtool check metrics < " + path).c_str()), 0);
  std::remove(path.c_str());
}

TEST_F(MetricsTest, CountsCalls) {
  metrics_.CallStarted(Method::kAttend);
  metrics_.CallStarted(Method::kAttend);
  metrics_.CallStarted(Method::kGetServerInfo);
  metrics_.CallFinished(Method::kAttend, absl::StatusCode::kOk, 0.01);
  metrics_.CallFinished(Method::kAttend, absl::StatusCode::kResourceExhausted, 0.02);
  metrics_.CallFinished(Method::kGetDemo, absl::StatusCode::kUnauthenticated, 0.001);
  metrics_.CallFinished(Method::kCompareAlgorithms, static_cast<absl::StatusCode>(99), 40);

  const Exposition text = Scrape();
  EXPECT_EQ(text.At(Call("grpc_server_started_total", "Attend")), 2);
  EXPECT_EQ(text.At(Call("grpc_server_started_total", "GetServerInfo")), 1);
  EXPECT_EQ(text.At(Call("grpc_server_handled_total", "Attend", "OK")), 1);
  EXPECT_EQ(text.At(Call("grpc_server_handled_total", "Attend", "ResourceExhausted")), 1);
  EXPECT_EQ(text.At(Call("grpc_server_handled_total", "GetDemo", "Unauthenticated")), 1);
  EXPECT_EQ(text.At(Call("grpc_server_handled_total", "CompareAlgorithms", "Unknown")), 1);
  EXPECT_EQ(text.At(Call("grpc_server_handling_seconds_count", "Attend")), 2);
  EXPECT_DOUBLE_EQ(text.At(Call("grpc_server_handling_seconds_sum", "Attend")).value(), 0.03);
}

TEST_F(MetricsTest, CountsTheLog) {
  log_.Add(Severity::kWarning);
  log_.Add(Severity::kWarning);
  const Exposition text = Scrape();
  EXPECT_EQ(text.At("headlight_log_messages_total{level=\"warning\"}"), 2);
  EXPECT_EQ(text.At("headlight_log_messages_total{level=\"error\"}"), 0);
}

TEST_F(MetricsTest, AddsUpForPeople) {
  for (int i = 0; i < 98; ++i) metrics_.CallFinished(Method::kAttend, absl::StatusCode::kOk, 0.015);
  metrics_.CallFinished(Method::kAttend, absl::StatusCode::kInternal, 0.3);
  metrics_.CallFinished(Method::kAttend, absl::StatusCode::kCancelled, 100);
  metrics_.CallStarted(Method::kAttend);
  metrics_.Failed(ErrorReason::kInternal);
  metrics_.Decided(Decision::kMemory);
  metrics_.Decided(Decision::kAdmitted);
  const CallTotals totals = metrics_.Totals();
  ASSERT_EQ(totals.methods.size(), static_cast<std::size_t>(kMethods));
  const CallTotals::OfMethod& attend = totals.methods[0];
  EXPECT_EQ(NameOf(attend.method), "Attend");
  EXPECT_EQ(attend.started, 1);
  EXPECT_EQ(attend.ok, 98);
  EXPECT_EQ(attend.failed, 2);
  EXPECT_NEAR(attend.median_seconds, 0.015, 0.005);  // a bucket from 10 to 20 ms
  EXPECT_NEAR(attend.p99_seconds, 0.5, 1e-9);        // the edge of the 99th's bucket
  EXPECT_EQ(totals.methods[1].median_seconds, 0);
  EXPECT_EQ(totals.errors, (std::vector<std::pair<std::string, std::int64_t>>{{"INTERNAL", 1}}));
  EXPECT_EQ(totals.refusals, (std::vector<std::pair<std::string, std::int64_t>>{{"memory", 1}}));
}

TEST_F(MetricsTest, EveryCodeHasItsCanonicalName) {
  const std::vector<std::string> names = {
      "OK",       "Cancelled",      "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  for (int code = 0; code < 17; ++code) {
    metrics_.CallFinished(Method::kAttend, static_cast<absl::StatusCode>(code), 0);
    EXPECT_EQ(Scrape().At(Call("grpc_server_handled_total", "Attend", names[static_cast<std::size_t>(code)])), 1);
  }
}

TEST_F(MetricsTest, ABucketHoldsItsUpperEdge) {
  metrics_.CallFinished(Method::kAttend, absl::StatusCode::kOk, 0.01);
  const Exposition text = Scrape();
  const auto bucket = [&](const std::string& edge) {
    return text.At(
        "grpc_server_handling_seconds_bucket{grpc_method=\"Attend\",grpc_service=\"headlight.v1."
        "AttentionService\",grpc_type=\"unary\",le=\"" +
        edge + "\"}");
  };
  EXPECT_EQ(bucket("0.005"), 0);
  EXPECT_EQ(bucket("0.01"), 1);
  EXPECT_EQ(bucket("30"), 1);
  EXPECT_EQ(bucket("+Inf"), 1);
}

TEST_F(MetricsTest, RecordsAnAttention) {
  AttendRecord record;
  record.algorithm = AlgorithmLabel::kFlash;
  record.seconds[Stage::kDecode] = 0.001;
  record.seconds[Stage::kProject] = 0.25;
  record.seconds[Stage::kAttend] = 0.5;
  record.seconds[Stage::kMaps] = 0.125;
  record.flops = 2'000'000'000;
  record.query_tokens = 20;
  record.key_tokens = 30;
  record.sequence_length = 15;
  record.weight_map_bytes = 400;
  record.score_grid_saved_bytes = 1 << 20;
  metrics_.Attended(record);
  metrics_.Attended(record);

  const Exposition text = Scrape();
  EXPECT_EQ(text.At("headlight_attend_seconds_count{algorithm=\"flash\",size_class=\"medium\"}"), 2);
  EXPECT_EQ(text.At("headlight_attend_seconds_sum{algorithm=\"flash\",size_class=\"medium\"}"), 1.75);
  EXPECT_EQ(text.At("headlight_attend_seconds_count{algorithm=\"naive\",size_class=\"medium\"}"), 0);
  EXPECT_EQ(text.At("headlight_stage_seconds_sum{stage=\"project\"}"), 0.5);
  EXPECT_EQ(text.At("headlight_stage_seconds_count{stage=\"attend\"}"), 2);
  EXPECT_EQ(text.At("headlight_stage_seconds_count{stage=\"encode\"}"), 0);
  EXPECT_EQ(text.At("headlight_tokens_total{side=\"query\"}"), 40);
  EXPECT_EQ(text.At("headlight_tokens_total{side=\"key\"}"), 60);
  EXPECT_EQ(text.At("headlight_flops_total{algorithm=\"flash\"}"), 4e9);
  EXPECT_EQ(text.At("headlight_flops_total{algorithm=\"naive\"}"), 0);
  EXPECT_EQ(text.At("headlight_weight_map_bytes_total"), 800);
  EXPECT_EQ(text.At("headlight_score_grid_saved_bytes_total"), 2 << 20);
  EXPECT_EQ(text.At("headlight_sequence_length_bucket{le=\"16\"}"), 2);
  EXPECT_EQ(text.At("headlight_request_flops_sum"), 4e9);
}

TEST_F(MetricsTest, SizeClassesHaveTheirEdges) {
  const std::vector<std::pair<std::int64_t, std::string>> classes = {{0, "small"},
                                                                     {999'999'999, "small"},
                                                                     {1'000'000'000, "medium"},
                                                                     {19'999'999'999, "medium"},
                                                                     {20'000'000'000, "large"}};
  std::map<std::string, int> seen;
  for (const auto& [flops, name] : classes) {
    AttendRecord record;
    record.algorithm = AlgorithmLabel::kNaive;
    record.flops = flops;
    metrics_.Attended(record);
    EXPECT_EQ(Scrape().At("headlight_attend_seconds_count{algorithm=\"naive\",size_class=\"" + name + "\"}"),
              ++seen[name]);
  }
}

TEST_F(MetricsTest, CountsErrorsAndCancelledCalls) {
  metrics_.Failed(ErrorReason::kInvalidRequest);
  metrics_.Failed(ErrorReason::kInternal);
  metrics_.Cancelled(Stage::kQueue, CancelCause::kDeadline, 0);
  metrics_.Cancelled(Stage::kAttend, CancelCause::kClient, 1e9);
  metrics_.CancelTook(0.004);
  const Exposition text = Scrape();
  EXPECT_EQ(text.At("headlight_errors_total{reason=\"invalid_request\"}"), 1);
  EXPECT_EQ(text.At("headlight_errors_total{reason=\"internal\"}"), 1);
  EXPECT_EQ(text.At("headlight_errors_total{reason=\"request_too_expensive\"}"), 0);
  EXPECT_EQ(text.At("headlight_cancelled_total{cause=\"deadline\",stage=\"queue\"}"), 1);
  EXPECT_EQ(text.At("headlight_cancelled_total{cause=\"client\",stage=\"attend\"}"), 1);
  EXPECT_EQ(text.At("headlight_cancelled_total{cause=\"client\",stage=\"queue\"}"), 0);
}

TEST_F(MetricsTest, CountsWasteAndWhatAdmissionDecides) {
  metrics_.Cancelled(Stage::kAttend, CancelCause::kClient, 1e9);
  metrics_.CancelTook(0.004);
  metrics_.Decided(Decision::kAdmitted);
  metrics_.Decided(Decision::kAdmitted);
  metrics_.Decided(Decision::kMemoryPressure);
  metrics_.Estimated(AlgorithmLabel::kFlash, 1.05);
  const Exposition text = Scrape();
  EXPECT_EQ(text.At("headlight_wasted_flops_total{cause=\"client\",stage=\"attend\"}"), 1e9);
  EXPECT_EQ(text.At("headlight_cancel_latency_seconds_count"), 1);
  EXPECT_EQ(text.At("headlight_admission_total{decision=\"admitted\",reason=\"none\"}"), 2);
  EXPECT_EQ(text.At("headlight_admission_total{decision=\"refused\",reason=\"memory_pressure\"}"), 1);
  EXPECT_EQ(text.At("headlight_admission_total{decision=\"refused\",reason=\"draining\"}"), 0);
  EXPECT_EQ(text.At("headlight_cost_estimate_ratio_bucket{algorithm=\"flash\",le=\"0.9\"}"), 0);
  EXPECT_EQ(text.At("headlight_cost_estimate_ratio_bucket{algorithm=\"flash\",le=\"1.1\"}"), 1);
}

TEST_F(MetricsTest, ReadsItsSourcesAtEachScrape) {
  EXPECT_EQ(Scrape().At("headlight_ready"), 0);
  ledger_.Add(1000);
  ledger_.Add(-400);
  busy_ = 3;
  busy_seconds_ = 1.5;
  ready_ = true;
  draining_ = true;
  calls_ = 7;
  tls_certificate_expiry_ = 2e9;
  const Exposition text = Scrape();
  EXPECT_EQ(text.At("headlight_workspace_bytes"), 600);
  EXPECT_EQ(text.At("headlight_workspace_peak_bytes"), 1000);
  EXPECT_EQ(text.At("headlight_workers"), 8);
  EXPECT_EQ(text.At("headlight_workers_busy"), 3);
  EXPECT_EQ(text.At("headlight_worker_busy_seconds_total"), 1.5);
  EXPECT_EQ(text.At("headlight_ready"), 1);
  EXPECT_EQ(text.At("headlight_draining"), 1);
  EXPECT_EQ(text.At("headlight_queue_length"), 7);
  EXPECT_EQ(text.At("headlight_queue_length_limit"), 1024);
  EXPECT_EQ(text.At("headlight_backlog_seconds"), 3.5);
  EXPECT_EQ(text.At("headlight_backlog_seconds_limit"), 1.5);
  EXPECT_EQ(text.At("headlight_memory_reserved_bytes"), 700);
  EXPECT_EQ(text.At("headlight_layers"), 21);
  EXPECT_EQ(text.At("headlight_layer_bytes"), 7 * 4096);
  EXPECT_EQ(text.At("headlight_memory_budget_bytes"), 4096);
  EXPECT_EQ(text.At("headlight_tls_certificate_expiry_timestamp_seconds"), 2e9);
}

TEST_F(MetricsTest, SaysWhatRunsAndItsLimits) {
  const Exposition text = Scrape();
  EXPECT_EQ(text.At("headlight_build_info{cpu_target=\"avx2\",grpc=\"1.51.1\",onednn=\"2.6.0\",version=\"0.1.0\"}"), 1);
  for (const auto& [name, value] : Limits().Table()) {
    EXPECT_EQ(text.At("headlight_limit{name=\"" + std::string(name) + "\"}"), static_cast<double>(value)) << name;
  }
}

TEST_F(MetricsTest, IncludesTheProcess) { EXPECT_GT(Scrape().At("process_resident_memory_bytes"), 0); }

TEST_F(MetricsTest, LosesNothingWhenRecordedAndScrapedAtOnce) {
  constexpr int kThreads = 4;
  constexpr int kCalls = 2000;
  AttendRecord record;
  record.query_tokens = 1;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, &record] {
      for (int i = 0; i < kCalls; ++i) {
        metrics_.CallStarted(Method::kAttend);
        metrics_.Attended(record);
        metrics_.CallFinished(Method::kAttend, absl::StatusCode::kOk, 1);
      }
    });
  }
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(metrics_.Expose().empty());
  for (std::thread& thread : threads) thread.join();
  const Exposition text = Scrape();
  EXPECT_EQ(text.At(Call("grpc_server_started_total", "Attend")), kThreads * kCalls);
  EXPECT_EQ(text.At(Call("grpc_server_handling_seconds_sum", "Attend")), kThreads * kCalls);
  EXPECT_EQ(text.At("headlight_tokens_total{side=\"query\"}"), kThreads * kCalls);
}

}  // namespace
}  // namespace headlight
