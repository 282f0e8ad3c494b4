#include "server/service/status_page.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/host/cgroup.h"
#include "server/web/statusz.h"

namespace headlight {
namespace {

std::string MiB(std::int64_t bytes) { return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20)); }

std::string Milliseconds(double seconds) { return absl::StrFormat("%.2f ms", 1e3 * seconds); }

std::string StateOf(const MetricSources& sources) {
  if (sources.draining()) return "draining";
  return sources.ready() ? "ready" : "warming up";
}

std::string CertificateOf(const MetricSources& sources) {
  const double expiry = sources.tls_certificate_expiry();
  if (expiry == 0) return "no TLS";
  const absl::Time when = absl::FromUnixSeconds(static_cast<std::int64_t>(expiry));
  return absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M UTC", when, absl::UTCTimeZone()), " (in ",
                      absl::FormatDuration(absl::Trunc(when - absl::Now(), absl::Hours(1))), ")");
}

StatusTable ServerTable(const StatusFacts& facts, const MetricSources& sources) {
  const absl::Duration up = absl::Trunc(absl::Now() - facts.started, absl::Seconds(1));
  return {"Server",
          {},
          {{"version", facts.version},
           {"state", StateOf(sources)},
           {"up for", absl::FormatDuration(up)},
           {"addresses", facts.addresses},
           {"certificate expires", CertificateOf(sources)},
           {"asks who calls", facts.asks_who_calls ? "yes" : "no"},
           {"CPU target", facts.cpu_target},
           {"libraries", absl::StrJoin(facts.libraries, ", ", absl::PairFormatter(" "))}}};
}

StatusTable NowTable(const MetricSources& sources) {
  const MemoryReading memory = ReadMemory();
  const auto of = [](const std::string& now, const std::string& most) { return absl::StrCat(now, " of ", most); };
  return {"Now",
          {},
          {{"calls admitted", of(absl::StrCat(sources.calls()), absl::StrCat(sources.max_calls))},
           {"backlog", of(Milliseconds(sources.backlog_seconds()), Milliseconds(sources.max_wait_seconds))},
           {"workers computing", of(absl::StrCat(sources.workers_busy()), absl::StrCat(sources.workers()))},
           {"memory reserved by calls", of(MiB(sources.reserved_bytes()), MiB(sources.memory_budget_bytes))},
           {"workspace", absl::StrCat(MiB(sources.memory->now()), ", at most ", MiB(sources.memory->peak()))},
           {"memory of the cgroup, or the machine", of(MiB(memory.used_bytes), MiB(memory.limit_bytes))}}};
}

StatusTable CallsTable(const CallTotals& totals) {
  StatusTable table{"Calls since the start", {"method", "started", "OK", "failed", "median", "99 of 100 within"}, {}};
  for (const CallTotals::OfMethod& of : totals.methods) {
    table.rows.push_back({std::string(NameOf(of.method)), absl::StrCat(of.started), absl::StrCat(of.ok),
                          absl::StrCat(of.failed), Milliseconds(of.median_seconds), Milliseconds(of.p99_seconds)});
  }
  return table;
}

StatusTable CountsTable(std::string heading, const std::vector<std::pair<std::string, std::int64_t>>& counts) {
  StatusTable table{std::move(heading), {"reason", "calls"}, {}};
  for (const auto& [name, count] : counts) table.rows.push_back({name, absl::StrCat(count)});
  return table;
}

StatusTable LimitsTable(const Limits& limits) {
  StatusTable table{"Limits", {}, {}};
  for (const auto& [name, value] : limits.Table()) table.rows.push_back({std::string(name), absl::StrCat(value)});
  return table;
}

}  // namespace

std::string StatusPage(const StatusFacts& facts, const Metrics& metrics, const Limits& limits) {
  const CallTotals totals = metrics.Totals();
  return RenderStatus(absl::StrCat("Headlight ", facts.version),
                      {ServerTable(facts, metrics.sources()), NowTable(metrics.sources()), CallsTable(totals),
                       CountsTable("Refused by admission", totals.refusals), CountsTable("Errors", totals.errors),
                       LimitsTable(limits)});
}

}  // namespace headlight
