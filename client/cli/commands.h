// The subcommands. Each Add... registers one with its flags; when it was named on the command line, parsing runs it
// and leaves its exit code in the session. `app` and `session` must outlive the parsing.
#ifndef HEADLIGHT_CLIENT_CLI_COMMANDS_H_
#define HEADLIGHT_CLIENT_CLI_COMMANDS_H_

#include <CLI/CLI.hpp>

#include "client/cli/session.h"

namespace headlight::cli {

// The demo sentence through the demo layer: the maps of its heads and where each word looks.
void AddDemo(CLI::App& app, Session& session);

// One attention call.
void AddAttend(CLI::App& app, Session& session);

// What that call would compute and take, without computing it.
void AddPlan(CLI::App& app, Session& session);

// Naive, flash and the double-precision reference side by side.
void AddCompare(CLI::App& app, Session& session);

// A layer without some of its heads: its output, what the loss of each changes, and which can go first.
void AddAblate(CLI::App& app, Session& session);

// A stack over words: its bets, and which heads make them.
void AddTrace(CLI::App& app, Session& session);

// The query-key and output-value circuits of a layer's heads, how they feed a later layer's, and a swap of two.
void AddCircuits(CLI::App& app, Session& session);
// What each head of a layer does on given texts: habits, scores, distances and look-alikes.
void AddHeads(CLI::App& app, Session& session);

// What the server is and its limits.
void AddInfo(CLI::App& app, Session& session);

// Whether the server is serving.
void AddHealth(CLI::App& app, Session& session);

// Layers that the server holds: list, show, upload, delete, prune.
void AddLayers(CLI::App& app, Session& session);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_COMMANDS_H_
