#include "client/cli/session.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cli/files.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cpp/errors.h"

namespace headlight::cli {
namespace {

std::string HintFor(const absl::Status& status, const client::ErrorInfo& details, const Session& session) {
  const std::string& reason = details.reason;
  if (reason == "INVALID_REQUEST") return "correct these fields; --help of the subcommand says which flag sets which";
  if (reason == "REQUEST_TOO_EXPENSIVE") return "make the request smaller; `headlight info` lists the limits";
  if (reason == "RESPONSE_TOO_LARGE") return "ask for less: fewer heads in --maps, :top=K, :pooled=..., or --no-output";
  if (reason == "LAYER_NOT_FOUND") return "`headlight info` lists the layers of this server";
  if (reason == "NOT_IMPLEMENTED") return "this version of the server does not compute that; leave these fields out";
  if (reason == "NOT_READY") return "the server is warming up; `headlight health` says when it is ready";
  if (absl::IsUnauthenticated(status)) {
    return "the server wants a token: --token-file or HEADLIGHT_TOKEN; or a client certificate: --tls-certificate";
  }
  if (reason == "DRAINING" || reason == "DRAIN_ABORTED") return "the server is stopping; try again, or another address";
  if (absl::IsDeadlineExceeded(status)) {
    const std::string where = reason.empty() ? absl::StrCat("; does anybody answer at ", session.address, "?") : "";
    return absl::StrCat("raise --timeout, or make the request smaller", where);
  }
  if (details.retry_delay.has_value()) {
    return absl::StrCat("the server is busy; try again in ", HumanSeconds(absl::ToDoubleSeconds(*details.retry_delay)));
  }
  if (absl::IsResourceExhausted(status)) return "a message is too large; `headlight info` lists the limits";
  if (absl::IsUnavailable(status)) {
    return absl::StrCat("is a headlight-server running at ", session.address,
                        "? --address or HEADLIGHT_ADDRESS says where, --tls and --tls-ca that it speaks TLS");
  }
  if (absl::IsUnimplemented(status)) {
    return absl::StrCat("what listens at ", session.address, " does not know this call; is it a headlight-server?");
  }
  if (absl::IsInternal(status)) return "this is a fault of the server; its log says more";
  return "";
}

nlohmann::json ErrorJson(ExitCode code, const absl::Status& status, const std::string& hint) {
  const client::ErrorInfo details = client::DetailsOf(status);
  nlohmann::json violations = nlohmann::json::array();
  for (const client::Violation& violation : details.violations) {
    violations.push_back({{"field", violation.field}, {"description", violation.description}});
  }
  nlohmann::json error = {{"code", absl::StatusCodeToString(status.code())},
                          {"message", std::string(status.message())},
                          {"reason", details.reason},
                          {"metadata", details.metadata},
                          {"violations", violations},
                          {"hint", hint},
                          {"exit_code", static_cast<int>(code)}};
  if (details.retry_delay.has_value()) error["retry_delay_seconds"] = absl::ToDoubleSeconds(*details.retry_delay);
  return {{"error", error}};
}

void PrintError(ExitCode code, const absl::Status& status, const std::string& hint) {
  const client::ErrorInfo details = client::DetailsOf(status);
  std::cerr << "headlight: ";
  if (code != kExitUsage) std::cerr << absl::StatusCodeToString(status.code());
  if (!details.reason.empty()) std::cerr << " (" << Printable(details.reason) << ")";
  if (code != kExitUsage) std::cerr << ": ";
  // The message repeats the violations; one a line is easier to read.
  const auto count = details.metadata.find("violations");
  std::cerr << (details.violations.empty() ? Printable(status.message()) : "the server refused the request");
  if (count != details.metadata.end()) std::cerr << ", violations: " << Printable(count->second);
  std::cerr << "\n";
  for (const client::Violation& violation : details.violations) {
    std::cerr << "  " << Printable(violation.field) << ": " << Printable(violation.description) << "\n";
  }
  for (const auto& [key, value] : details.metadata) {
    if (key != "violations") std::cerr << "  " << Printable(key) << " = " << Printable(value) << "\n";
  }
  if (!hint.empty()) std::cerr << "hint: " << hint << "\n";
}

}  // namespace

ExitCode ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented: return kExitRefused;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded: return kExitUnavailable;
    case absl::StatusCode::kResourceExhausted:
      return client::DetailsOf(status).retry_delay.has_value() ? kExitUnavailable : kExitRefused;
    default: return kExitOther;
  }
}

absl::StatusOr<std::unique_ptr<client::Client>> Connect(const Session& session) {
  client::ClientOptions options;
  options.address = session.address;
  options.deadline = absl::Seconds(session.timeout_seconds);
  // A server that drains or warms up has answers for people, too.
  options.spread_over_replicas = false;
  const char* token = std::getenv("HEADLIGHT_TOKEN");
  if (token != nullptr) options.token = token;
  client::TlsOptions tls;
  const std::pair<const std::string&, std::string*> files[] = {{session.token_file, &options.token},
                                                               {session.tls_ca, &tls.roots},
                                                               {session.tls_certificate, &tls.certificate_chain},
                                                               {session.tls_key, &tls.private_key}};
  for (const auto& [path, contents] : files) {
    if (path.empty()) continue;
    absl::StatusOr<std::string> read = ReadFile(path);
    if (!read.ok()) return read.status();
    *contents = *std::move(read);
  }
  absl::StripAsciiWhitespace(&options.token);
  if (session.tls || !tls.roots.empty() || !tls.certificate_chain.empty() || !tls.private_key.empty()) {
    options.tls = std::move(tls);
  }
  return client::Client::Create(options);
}

Style StyleOfOutput() {
  Style style;
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool dumb = terminal != nullptr && absl::string_view(terminal) == "dumb";
  style.color = isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0') && !dumb;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) style.width = size.ws_col;
  return style;
}

ExitCode Report(const Session& session, ExitCode code, const absl::Status& status, const std::string& hint) {
  if (session.json) {
    PrintJson(ErrorJson(code, status, hint));
  } else {
    std::cout.flush();
    PrintError(code, status, hint);
  }
  return code;
}

ExitCode ReportServer(const Session& session, const absl::Status& status) {
  return Report(session, ExitCodeFor(status), status, HintFor(status, client::DetailsOf(status), session));
}

}  // namespace headlight::cli
