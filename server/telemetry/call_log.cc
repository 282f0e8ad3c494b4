#include "server/telemetry/call_log.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"

namespace headlight {
namespace {

using nlohmann::ordered_json;

ordered_json JsonOf(const CallShape& shape) {
  return {{"batch", shape.batch},
          {"query_heads", shape.query_heads},
          {"key_value_heads", shape.key_value_heads},
          {"query_tokens", shape.query_tokens},
          {"key_tokens", shape.key_tokens},
          {"head_size", shape.head_size},
          {"value_head_size", shape.value_head_size}};
}

// To the microsecond: more digits say nothing.
double Rounded(double seconds) {
  return absl::ToDoubleSeconds(absl::Trunc(absl::Seconds(seconds), absl::Microseconds(1)));
}

}  // namespace

std::string ToJson(const CallRecord& record, absl::Time now, std::int64_t suppressed) {
  ordered_json line = {{"time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", now, absl::UTCTimeZone())},
                       {"event", "call"},
                       {"method", std::string(NameOf(record.method))},
                       {"code", absl::StatusCodeToString(record.code)},
                       {"request_id", record.request_id}};
  if (record.reason.has_value()) line["reason"] = std::string(NameOf(*record.reason));
  if (!record.traceparent.empty()) line["traceparent"] = record.traceparent;
  line["seconds"] = Rounded(record.seconds);
  if (!record.algorithm.empty()) line["algorithm"] = std::string(record.algorithm);
  if (record.shape.has_value()) line["shape"] = JsonOf(*record.shape);
  ordered_json stages = ordered_json::object();
  for (int i = 0; i < kStages; ++i) {
    const auto stage = static_cast<Stage>(i);
    if (record.stage_seconds[stage] > 0) stages[std::string(NameOf(stage))] = Rounded(record.stage_seconds[stage]);
  }
  if (!stages.empty()) line["stage_seconds"] = std::move(stages);
  line["request_bytes"] = record.request_bytes;
  line["response_bytes"] = record.response_bytes;
  if (suppressed > 0) line["suppressed"] = suppressed;
  // Whatever slipped in: a log line must not throw.
  return line.dump(-1, ' ', /*ensure_ascii=*/true, ordered_json::error_handler_t::replace);
}

CallLog::CallLog(int lines_per_second, Write write) : lines_per_second_(lines_per_second), write_(std::move(write)) {}

void CallLog::Ended(bool well, const std::function<CallRecord()>& describe) {
  if (lines_per_second_ == 0) return;
  const absl::Time now = absl::Now();
  std::int64_t suppressed = 0;
  {
    const absl::MutexLock lock(&mutex_);
    Allowance& allowance = well ? well_ : failed_;
    const double gained = absl::ToDoubleSeconds(now - allowance.filled) * lines_per_second_;
    allowance.lines = std::clamp(allowance.lines + gained, 0.0, lines_per_second_);
    allowance.filled = now;
    if (allowance.lines < 1) {
      ++allowance.suppressed;
      return;
    }
    allowance.lines -= 1;
    suppressed = std::exchange(allowance.suppressed, 0);
  }
  write_(ToJson(describe(), now, suppressed));
}

}  // namespace headlight
