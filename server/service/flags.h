// The command line and the environment of the server.
#ifndef HEADLIGHT_SERVER_SERVICE_FLAGS_H_
#define HEADLIGHT_SERVER_SERVICE_FLAGS_H_

#include <variant>

#include "server/service/server.h"

namespace headlight {

// What is asked for; or the exit code of a process that has said all it had to: 0 after --help and --version, 2 after
// one line on stderr about a flag or variable that cannot be.
std::variant<ServerOptions, int> ParseFlags(int argc, char** argv);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_FLAGS_H_
