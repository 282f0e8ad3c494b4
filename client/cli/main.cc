#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/session.h"

namespace headlight::cli {
namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  headlight demo\n"
    "  headlight attend --query q.npy --key k.npy --value v.npy --causal top-left --output out.npy\n"
    "  headlight plan --tokens-count 16384 --heads 8 --head-size 64\n"
    "  headlight compare --tokens-count 4096 --heads 8 --head-size 64\n"
    "  headlight trace --maps\n"
    "  headlight info --json\n"
    "  headlight layers upload model.safetensors --heads 12\n"
    "  headlight health --address headlight.example:50051\n"
    "  headlight demo --address headlight.example:443 --tls --token-file token\n"
    "`headlight SUBCOMMAND --help` says more. The flags above go with every subcommand.\n\n";

// Leaves out which flags exclude which: with some thirty flags these lists hide the rest. Parsing still says it.
class BriefHelp : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return "";
    std::string text = " " + option->get_type_name();
    if (!option->get_default_str().empty()) text += "=" + option->get_default_str();
    if (!option->get_envname().empty()) text += " (or " + option->get_envname() + ")";
    return text;
  }
};

void AddConnectionFlags(CLI::App& app, Session& session) {
  app.add_option("--address", session.address, "Where the server listens: HOST:PORT or unix:PATH")
      ->envname("HEADLIGHT_ADDRESS")
      ->capture_default_str();
  app.add_flag("--tls", session.tls, "Connect with TLS; so does any of the three files below");
  app.add_option("--tls-ca", session.tls_ca,
                 "PEM file: who may have signed the server's certificate, else the system's")
      ->envname("HEADLIGHT_TLS_CA");
  app.add_option("--tls-certificate", session.tls_certificate,
                 "PEM file: your own certificate, if the server asks for one")
      ->envname("HEADLIGHT_TLS_CLIENT_CERTIFICATE");
  app.add_option("--tls-key", session.tls_key, "PEM file: its private key")->envname("HEADLIGHT_TLS_CLIENT_KEY");
  app.add_option("--token-file", session.token_file, "File with the bearer token; else HEADLIGHT_TOKEN is the token")
      ->envname("HEADLIGHT_TOKEN_FILE");
}

int Run(int argc, char** argv) {
  CLI::App app("Exact multi-head attention from a Headlight server.", "headlight");
  app.formatter(std::make_shared<BriefHelp>());
  Session session;
  // Parsing itself can fail, and its error is to be JSON too.
  session.json = std::any_of(argv + 1, argv + argc, [](const char* a) { return std::string_view(a) == "--json"; });
  AddConnectionFlags(app, session);
  app.add_option("--timeout", session.timeout_seconds, "Seconds for the call, retries included")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
  app.add_flag("--json", session.json, "One JSON document on standard output, errors too");
  app.set_version_flag("--version", "headlight " HEADLIGHT_VERSION);
  app.footer(std::string(kExamples) + kExitCodesHelp);
  // Asked for below: here it would hide which word is no subcommand.
  app.require_subcommand(0, 1);
  app.fallthrough();
  AddDemo(app, session);
  AddAttend(app, session);
  AddPlan(app, session);
  AddCompare(app, session);
  AddAblate(app, session);
  AddTrace(app, session);
  AddCircuits(app, session);
  AddHeads(app, session);
  AddInfo(app, session);
  AddHealth(app, session);
  AddLayers(app, session);
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) throw CLI::RequiredError("A subcommand");
  } catch (const CLI::Success& help_or_version) {
    return app.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    return Report(session, kExitUsage, absl::InvalidArgumentError(error.what()),
                  "`headlight --help` lists the subcommands, `headlight SUBCOMMAND --help` its flags");
  }
  std::cout.flush();
  if (std::cout) return session.exit_code;
  std::cerr << "headlight: standard output cannot be written\n";
  return kExitOther;
}

}  // namespace
}  // namespace headlight::cli

int main(int argc, char** argv) { return headlight::cli::Run(argc, argv); }
