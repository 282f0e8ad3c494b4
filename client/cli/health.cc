#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "client/cli/commands.h"
#include "client/cli/json.h"

namespace headlight::cli {
namespace {

using grpc::health::v1::HealthCheckResponse;

constexpr char kHelp[] =
    "Prints SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN; the exit code is 0 for SERVING alone.\n"
    "Examples:\n"
    "  headlight health\n"
    "  headlight health --service headlight.v1.AttentionService\n"
    "  until headlight health --timeout 1; do sleep 1; done\n";

ExitCode RunHealth(const Session& session, const std::string& service) {
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  const auto status = (*client)->CheckHealth(service);
  if (!status.ok()) return ReportServer(session, status.status());
  const std::string& name = HealthCheckResponse::ServingStatus_Name(*status);
  if (session.json) {
    PrintJson({{"status", name}});
  } else {
    std::cout << name << "\n";
  }
  return *status == HealthCheckResponse::SERVING ? kExitOk : kExitNotServing;
}

}  // namespace

void AddHealth(CLI::App& app, Session& session) {
  CLI::App* health = app.add_subcommand("health", "Asks whether the server is serving.");
  const auto service = std::make_shared<std::string>();
  health->add_option("--service", *service, "A service by its full name; else the server as a whole");
  health->footer(kHelp);
  health->callback([&session, service] { session.exit_code = RunHealth(session, *service); });
}

}  // namespace headlight::cli
