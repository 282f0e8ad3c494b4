// How the program ends: what a script can tell from "$?" alone.
#ifndef HEADLIGHT_CLIENT_CLI_EXIT_CODES_H_
#define HEADLIGHT_CLIENT_CLI_EXIT_CODES_H_

#include "absl/status/status.h"

namespace headlight::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitOther = 1,        // anything else: a fault of the server, an answer that makes no sense
  kExitUsage = 2,        // bad usage, or a file that cannot be read or written
  kExitRefused = 3,      // the server refused the request: sending it again will not help
  kExitUnavailable = 4,  // nobody answers, too busy now, or the deadline passed: it may work later
  kExitNotServing = 5,   // `health`: the server answers that it is not serving
};

// For --help.
inline constexpr char kExitCodesHelp[] =
    "Exit codes:\n"
    "  0  done\n"
    "  1  anything else, such as a fault of the server\n"
    "  2  bad usage, or a file that cannot be read or written\n"
    "  3  the server refused the request\n"
    "  4  the server cannot be reached, is too busy, or the deadline passed\n"
    "  5  health: the server is not serving\n";

// For an error that a call to the server returned. RESOURCE_EXHAUSTED is kExitUnavailable where the server says when
// to come back, and kExitRefused where it does not, as for a message that is too large.
ExitCode ExitCodeFor(const absl::Status& status);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_EXIT_CODES_H_
