// What all subcommands share: the flags of the program, the connection, and how results and errors are told.
#ifndef HEADLIGHT_CLIENT_CLI_SESSION_H_
#define HEADLIGHT_CLIENT_CLI_SESSION_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/draw.h"
#include "client/cli/exit_codes.h"
#include "client/cpp/client.h"

namespace headlight::cli {

struct Session {
  std::string address = "127.0.0.1:50051";
  bool tls = false;  // or any of the files below
  std::string tls_ca;
  std::string tls_certificate;
  std::string tls_key;
  std::string token_file;  // else HEADLIGHT_TOKEN is the token
  double timeout_seconds = 60;
  bool json = false;
  ExitCode exit_code = kExitOk;  // set by the subcommand that ran
};

// A client for the session's address, timeout, TLS and token. Errors: of files that cannot be read, of Client::Create.
absl::StatusOr<std::unique_ptr<client::Client>> Connect(const Session& session);

// Colour where standard output is a terminal, NO_COLOR is not set and TERM is not "dumb"; the terminal's width.
Style StyleOfOutput();

// Tells an error and gives `code` back. For people: on standard error, with one violation a line and a hint. With
// session.json: {"error": {...}} on standard output, so that it carries one JSON document whatever happens.
ExitCode Report(const Session& session, ExitCode code, const absl::Status& status, const std::string& hint = "");

// The same for an error of a call, with the exit code and the hint that follow from it.
ExitCode ReportServer(const Session& session, const absl::Status& status);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_SESSION_H_
