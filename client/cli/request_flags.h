// The flags that describe an attention call, shared by `attend` and `compare`, and the request they make.
#ifndef HEADLIGHT_CLIENT_CLI_REQUEST_FLAGS_H_
#define HEADLIGHT_CLIENT_CLI_REQUEST_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "headlight/v1/attention_service.pb.h"

namespace headlight::cli {

// What to attend over. Paths of .npy files, but for the names and seeds; empty means not given.
struct InputFlags {
  std::string request;  // JSON of an AttendRequest; "-" is standard input
  std::string query, key, value;
  std::string embeddings, context;
  std::vector<std::uint64_t> seeded_embeddings;  // seed, tokens, width
  std::string layer;
  std::optional<std::uint64_t> seeded_weights;
  std::string weights_query, weights_key, weights_value, weights_output;
  std::string bias_query, bias_key, bias_value, bias_output;

  bool HasEmbeddings() const { return !embeddings.empty() || !seeded_embeddings.empty(); }

  // Whether any of them was given, a whole input or a part of one.
  bool Any() const {
    return HasEmbeddings() || !request.empty() || !query.empty() || !context.empty() || !layer.empty() ||
           seeded_weights.has_value() || !weights_query.empty();
  }
};

// How to attend. The server checks the values; what would be ignored without a word is refused here.
struct OptionFlags {
  std::uint32_t heads = 0, kv_heads = 0, head_size = 0;
  std::string causal;  // "top-left", "bottom-right", "explicit:N" or empty
  std::vector<std::int64_t> key_lengths;
  std::string mask;  // path
  std::string position = "none";
  std::string layout;  // "halves", "interleaved" or empty
  std::optional<double> base;
  std::optional<std::uint32_t> rotary_size;
  std::string table;  // path
  std::vector<float> slopes;
  std::optional<std::int64_t> query_offset, key_offset;
  std::optional<double> scale;
  std::string algorithm = "auto";
  std::string kind = "f32";
  std::string priority = "interactive";
  std::vector<std::string> tokens;
};

struct RequestFlags {
  InputFlags input;
  OptionFlags options;
};

// A check for flags without a sign: CLI11 2.1 reads -1 as 2^64 - 1. What is wrong, or "".
std::string RefuseMinus(const std::string& text);

// Adds the flags to a subcommand. `flags` must outlive it. Flags that contradict each other exclude each other.
void AddRequestFlags(CLI::App& app, RequestFlags& flags);

// The request that the flags describe, without outputs but for those that a --request file brings. All files are read.
// INVALID_ARGUMENT or NOT_FOUND, in the flags' words: no or half an input, a file that cannot be read, a flag without
// a use.
absl::StatusOr<v1::AttendRequest> BuildRequest(const RequestFlags& flags);

// Puts the options, the priority and the tokens of the flags into `request`. Errors as above.
absl::Status FillOptions(const OptionFlags& flags, v1::AttendRequest* request);

// The tensor in a .npy file, in the given kind; a boolean array stays BOOL where `allow_boolean`. Errors as above.
absl::StatusOr<v1::Tensor> ReadTensor(const std::string& path, v1::TensorKind kind, bool allow_boolean = false);

// The kind that --kind names. REQUIRES: "f32", "f16" or "bf16".
v1::TensorKind KindNamed(const std::string& name);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_REQUEST_FLAGS_H_
