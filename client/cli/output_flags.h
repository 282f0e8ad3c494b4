// The flags of `attend` that say what comes back and where it goes.
#ifndef HEADLIGHT_CLIENT_CLI_OUTPUT_FLAGS_H_
#define HEADLIGHT_CLIENT_CLI_OUTPUT_FLAGS_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "headlight/v1/attention_service.pb.h"

namespace headlight::cli {

// Paths; empty means not asked for.
struct OutputFlags {
  std::string output;        // .npy or .json
  std::string log_sum_exp;   // .npy or .json
  std::string head_outputs;  // .npy or .json
  std::vector<std::string> maps;
  std::string maps_out;  // .npy, .json, or a folder
  bool show = false;
  bool no_output = false;
};

// Adds the flags to a subcommand. `flags` must outlive it.
void AddOutputFlags(CLI::App& app, OutputFlags& flags);

// "all", "0,2", "all:full", "0,2:top=8". INVALID_ARGUMENT: anything else.
absl::StatusOr<v1::WeightMaps> ParseMaps(absl::string_view text);

// Adds what the flags ask for to `outputs`. INVALID_ARGUMENT: a map that cannot be read, or --maps-out without maps or
// as .npy with top keys.
absl::Status AddOutputs(const OutputFlags& flags, v1::OutputSelection* outputs);

// Writes what the flags name, takes it out of `response`, and gives the names of the files written. UNKNOWN: a file
// cannot be written; INVALID_ARGUMENT: the answer contradicts itself, or its maps do not fit one .npy file.
absl::StatusOr<std::vector<std::string>> WriteOutputs(const OutputFlags& flags, v1::AttendResponse* response);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_OUTPUT_FLAGS_H_
