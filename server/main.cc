#include <variant>

#include "server/service/flags.h"
#include "server/service/server.h"

int main(int argc, char** argv) {
  const auto parsed = headlight::ParseFlags(argc, argv);
  const auto* options = std::get_if<headlight::ServerOptions>(&parsed);
  return options != nullptr ? headlight::RunServer(*options) : std::get<int>(parsed);
}
