#include <algorithm>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "With --json the GetServerInfoResponse in protobuf's JSON mapping.\n"
    "Examples:\n"
    "  headlight info\n"
    "  headlight info --json | jq -r '.limits[] | [.name, .value] | @tsv'\n";

constexpr int kNameWidth = 22;  // of most limits

void PrintForPeople(const v1::GetServerInfoResponse& info) {
  std::vector<std::pair<std::string, std::string>> rows = {
      {"version", Printable(info.version())},
      {"cpu target",
       Printable(absl::StrCat(info.cpu_target(), " (of ", absl::StrJoin(info.available_cpu_targets(), ", "), ")"))},
      {"threads", absl::StrCat(info.threads())},
      {"layers", Printable(absl::StrJoin(info.layers(), ", "))}};
  const std::map<std::string, std::string> libraries(info.library_versions().begin(), info.library_versions().end());
  for (const auto& [name, version] : libraries) rows.emplace_back(Printable(name), Printable(version));
  for (const v1::Limit& limit : info.limits()) {
    const std::string human =
        absl::EndsWith(limit.name(), "_bytes") && limit.value() >= 1024 ? HumanBytes(limit.value()) : "";
    rows.emplace_back(Printable(limit.name()), absl::StrCat(limit.value(), human.empty() ? "" : " = ", human));
  }
  for (const auto& [name, value] : rows)
    std::cout << Fit(name, std::max(kNameWidth, Width(name)), Pad::kRight) << " " << value << "\n";
}

ExitCode RunInfo(const Session& session) {
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  const auto info = (*client)->GetServerInfo();
  if (!info.ok()) return ReportServer(session, info.status());
  if (!session.json) {
    PrintForPeople(*info);
    return kExitOk;
  }
  const absl::Status printed = PrintJson(*info);
  return printed.ok() ? kExitOk : Report(session, kExitOther, printed);
}

}  // namespace

void AddInfo(CLI::App& app, Session& session) {
  CLI::App* info = app.add_subcommand("info", "Says what the server is, its layers and every limit.");
  info->footer(kHelp);
  info->callback([&session] { session.exit_code = RunInfo(session); });
}

}  // namespace headlight::cli
