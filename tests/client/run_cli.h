// Runs the real command line as a process of its own.
#ifndef HEADLIGHT_TESTS_CLIENT_RUN_CLI_H_
#define HEADLIGHT_TESTS_CLIENT_RUN_CLI_H_

#include <string>
#include <vector>

namespace headlight::testing {

struct CliRun {
  int exit_code = -1;  // 128 + signal where one ended it
  std::string out;
  std::string err;
};

struct CliSetting {
  std::string input = {};                     // on standard input
  std::vector<std::string> environment = {};  // "NAME=VALUE", in place of inherited ones
  std::string output = {};                    // where standard output goes, if not to CliRun.out
  bool terminal = false;                      // it is a terminal of 120 columns; not with output
};

// Runs `headlight ARGUMENTS...` to its end. HEADLIGHT_ADDRESS, NO_COLOR and TERM are not inherited.
CliRun RunCli(const std::vector<std::string>& arguments, const CliSetting& setting = {});

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CLIENT_RUN_CLI_H_
