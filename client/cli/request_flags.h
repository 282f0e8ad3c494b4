// The flags that describe an attention call, shared by `attend`, `plan` and `compare`, and the request they make.
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

// How to attend. The server checks the values; what would be ignored without a word is refused here. Text in one of
// the grammars of parse_flags.h is kept as it came; empty means not given.
struct OptionFlags {
  std::uint32_t heads = 0, kv_heads = 0, head_size = 0;
  std::string causal;  // an alignment
  std::vector<std::int64_t> key_lengths;
  std::string window;
  std::string window_alignment;  // an alignment
  std::string segments, key_segments;
  std::string mask;  // path
  std::string position = "none";
  std::string layout;  // "halves", "interleaved" or empty
  std::optional<double> base;
  std::optional<std::uint32_t> rotary_size;
  std::string rotary_scaling;
  std::string table;  // path
  std::vector<float> slopes;
  std::optional<std::int64_t> query_offset, key_offset;
  std::string query_positions, key_positions;
  std::optional<double> scale, softcap;
  std::string sinks, head_gains;
  std::string precision;  // "float32", "bfloat16" or empty
  bool allow_non_finite = false;
  std::string algorithm = "auto";
  std::string kind = "f32";
  std::string priority = "interactive";
  std::vector<std::string> tokens;
};

struct RequestFlags {
  InputFlags input;
  OptionFlags options;
};

// Checks of a flag's value: what is wrong with it, or "". For flags without a sign: CLI11 2.1 reads -1 as 2^64 - 1.
std::string RefuseMinus(const std::string& text);

// For flags whose empty value would pass for not given.
std::string RefuseEmpty(const std::string& text);

// A whole number from 0 to 2^64 - 1, in digits.
std::string RequireCount(const std::string& text);

// A decimal number, "inf" and "nan" included.
std::string RequireNumber(const std::string& text);

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
