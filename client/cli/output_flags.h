// The flags of `attend` and `plan` that say what comes back and where it goes.
#ifndef HEADLIGHT_CLIENT_CLI_OUTPUT_FLAGS_H_
#define HEADLIGHT_CLIENT_CLI_OUTPUT_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "headlight/v1/attention_service.pb.h"

namespace headlight::cli {

// Paths; empty means not asked for.
struct OutputFlags {
  std::string output;              // .npy or .json
  std::string log_sum_exp;         // .npy or .json
  std::string head_outputs;        // .npy or .json
  std::vector<std::string> maps;   // each as ParseMaps reads it
  std::string map_rows, map_keys;  // ranges
  std::vector<std::uint32_t> map_batches;
  std::string maps_out;  // .npy, .json, or a folder
  bool show = false;
  bool explain = false;
  bool no_output = false;
  bool statistics = false;
  std::optional<std::uint32_t> verify_rows;
  std::string kind;  // "f32", "f16", "bf16" or empty
  std::optional<std::uint64_t> max_response_bytes;
};

// Adds the flags to a subcommand. `flags` must outlive it.
void AddOutputFlags(CLI::App& app, OutputFlags& flags);

// Adds what the flags ask for to `outputs`. Where that leaves no map, --show adds the full maps of all heads, and
// --explain the top key of every row. Rows, keys and batches hold for every map that is added.
// INVALID_ARGUMENT: a value that cannot be read, a flag for maps where none is asked for, or --maps-out as .npy with
// top keys.
absl::Status AddOutputs(const OutputFlags& flags, v1::OutputSelection* outputs);

// Writes what the flags name, takes it out of `response`, and gives the names of the files written. UNKNOWN: a file
// cannot be written; INVALID_ARGUMENT: the answer contradicts itself, or its maps do not fit one .npy file.
absl::StatusOr<std::vector<std::string>> WriteOutputs(const OutputFlags& flags, v1::AttendResponse* response);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_OUTPUT_FLAGS_H_
