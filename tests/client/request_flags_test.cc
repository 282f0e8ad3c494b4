#include "client/cli/request_flags.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "client/cli/files.h"
#include "client/cli/npy.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

// Parses the flags as `attend` does.
absl::StatusOr<v1::AttendRequest> Build(std::vector<std::string> arguments) {
  CLI::App app;
  RequestFlags flags;
  AddRequestFlags(app, flags);
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return absl::FailedPreconditionError(error.what());
  }
  return BuildRequest(flags);
}

class RequestFlagsTest : public ::testing::Test {
 protected:
  RequestFlagsTest() { std::filesystem::create_directories(folder_); }

  // A file of 0, 1, 2, ...
  std::string Npy(const std::string& name, const std::vector<std::int64_t>& shape) const {
    std::vector<float> values(static_cast<std::size_t>(*client::ElementCount(shape)));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    const std::string path = folder_ + "/" + name + ".npy";
    EXPECT_TRUE(WriteNpy(path, values, shape).ok());
    return path;
  }

  const std::string folder_ = ::testing::TempDir() + "/request_flags_test." + std::to_string(getpid());
};

TEST_F(RequestFlagsTest, QueryKeyValueInTheAskedKind) {
  const auto request = Build({"--query", Npy("q", {2, 4}), "--key", Npy("k", {3, 4}), "--value", Npy("v", {3, 4}),
                              "--kind", "bf16", "--heads", "2", "--tokens", "a,b", "--priority", "batch"});
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->query_key_value().query().shape(0), 2);
  EXPECT_EQ(client::KindOf(request->query_key_value().value()), v1::TENSOR_KIND_BF16);
  EXPECT_EQ(client::FloatsOf(request->query_key_value().key()).value()[11], 11.0F);
  EXPECT_EQ(request->options().query_heads(), 2U);
  EXPECT_EQ(request->tokens_size(), 2);
  EXPECT_EQ(request->priority(), v1::PRIORITY_BATCH);
  EXPECT_TRUE(request->options().position().has_none());
  EXPECT_FALSE(request->options().has_mask());
}

TEST_F(RequestFlagsTest, EmbeddingsThroughEachLayer) {
  const std::string x = Npy("x", {3, 4});
  EXPECT_EQ(Build({"--embeddings", x, "--layer", "demo"})->self_attention().layer(), "demo");
  const auto seeded = Build({"--seeded-embeddings", "18446744073709551615,512,256", "--seeded-weights", "7"});
  ASSERT_TRUE(seeded.ok()) << seeded.status();
  EXPECT_EQ(seeded->self_attention().seeded_embeddings().seed(), 18446744073709551615U);
  EXPECT_EQ(seeded->self_attention().seeded_embeddings().tokens(), 512);
  EXPECT_EQ(seeded->self_attention().seeded_embeddings().width(), 256);
  EXPECT_EQ(seeded->self_attention().seeded_weights().seed(), 7U);
  const auto files = Build({"--embeddings", x, "--context", Npy("c", {5, 4}), "--weights-query", Npy("w", {4, 4}),
                            "--weights-key", Npy("w", {4, 4}), "--weights-value", Npy("w", {4, 4}), "--weights-output",
                            Npy("w", {4, 4}), "--bias-output", Npy("b", {4})});
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->self_attention().context().shape(0), 5);
  EXPECT_TRUE(files->self_attention().layer_weights().has_output_bias());
  EXPECT_FALSE(files->self_attention().layer_weights().has_query_bias());
}

TEST_F(RequestFlagsTest, MasksAndPositions) {
  const std::string x = Npy("x", {3, 4});
  const auto causal = [&](const std::string& text) {
    return Build({"--embeddings", x, "--layer", "l", "--causal", text})->options().mask().causal();
  };
  EXPECT_EQ(causal("top-left").alignment(), v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  EXPECT_EQ(causal("bottom-right").alignment(), v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT);
  EXPECT_EQ(causal("explicit:-3").alignment(), v1::CAUSAL_ALIGNMENT_EXPLICIT);
  EXPECT_EQ(causal("explicit:-3").offset(), -3);
  const auto rotary = Build(
      {"--embeddings",  x,        "--layer",       "l",    "--position",     "rotary", "--layout",     "interleaved",
       "--base",        "500000", "--rotary-size", "2",    "--query-offset", "-5",     "--key-offset", "0",
       "--key-lengths", "2,3",    "--scale",       "-0.5", "--algorithm",    "naive"});
  ASSERT_TRUE(rotary.ok()) << rotary.status();
  const v1::AttentionOptions& options = rotary->options();
  EXPECT_EQ(options.position().rotary().base(), 500000);
  EXPECT_EQ(options.position().rotary().rotary_size(), 2U);
  EXPECT_EQ(options.position().rotary().layout(), v1::CHANNEL_LAYOUT_INTERLEAVED);
  EXPECT_EQ(options.position().query_offset(), -5);
  EXPECT_TRUE(options.position().has_key_offset());
  EXPECT_EQ(options.mask().key_lengths(1), 3);
  EXPECT_EQ(options.scale(), -0.5);
  EXPECT_EQ(options.algorithm(), v1::ALGORITHM_NAIVE);
  const auto alibi = Build({"--embeddings", x, "--layer", "l", "--position", "alibi", "--slopes", "-0.5,0.25"});
  EXPECT_EQ(alibi->options().position().alibi().slopes(0), -0.5F);
  EXPECT_EQ(alibi->options().position().alibi().slopes_size(), 2);
  const auto learned = Build({"--embeddings", x, "--layer", "l", "--position", "learned", "--table", x});
  EXPECT_EQ(learned->options().position().learned().table().shape(0), 3);
  const auto waves = Build({"--embeddings", x, "--layer", "l", "--position", "sinusoidal", "--layout", "halves"});
  EXPECT_FALSE(waves->options().position().sinusoidal().has_base());
}

TEST_F(RequestFlagsTest, MaskFilesKeepTheirMeaning) {
  const std::string x = Npy("x", {2, 4});
  const std::string path = folder_ + "/mask.npy";
  std::string booleans = FormatNpy({}, std::vector<std::int64_t>{0});
  booleans.replace(booleans.find("<f4"), 3, "|b1");
  booleans.replace(booleans.find("(0,)"), 4, "(2,)");
  ASSERT_TRUE(WriteFile(path, booleans + std::string("\1\0", 2)).ok());
  const auto request = Build({"--embeddings", x, "--layer", "l", "--mask", path, "--kind", "f16"});
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->options().mask().tensor().bool_u8(), std::string("\1\0", 2));
  EXPECT_EQ(client::KindOf(Build({"--embeddings", x, "--layer", "l", "--mask", x})->options().mask().tensor()),
            v1::TENSOR_KIND_F32);
  EXPECT_TRUE(absl::StrContains(Build({"--embeddings", path, "--layer", "l"}).status().message(), "booleans"));
}

TEST_F(RequestFlagsTest, RequestFromJson) {
  const std::string path = folder_ + "/request.json";
  ASSERT_TRUE(WriteFile(path, R"({"query_key_value": {"query": {"shape": [1, 2], "f32_values": {"values": [1, 2]}}},
                                  "options": {"softcap": 30, "headGains": [0]}})")
                  .ok());
  const auto request = Build({"--request", path});
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->options().softcap(), 30);
  EXPECT_EQ(request->query_key_value().query().f32_values().values(1), 2);
  ASSERT_TRUE(WriteFile(path, R"({"no_such_field": 1})").ok());
  EXPECT_TRUE(absl::StartsWith(Build({"--request", path}).status().message(), path));
  ASSERT_TRUE(WriteFile(path, std::string(100000, '[')).ok());
  EXPECT_FALSE(Build({"--request", path}).ok());
}

TEST_F(RequestFlagsTest, WhatMakesNoSenseIsRefused) {
  const std::string x = Npy("x", {3, 4});
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"--layer", "demo"},
      {"--embeddings", x},
      {"--context", x, "--layer", "demo"},
      {"--query", x},
      {"--query", x, "--key", x},
      {"--query", x, "--key", x, "--value", x, "--layer", "demo"},
      {"--query", x, "--key", x, "--value", x, "--embeddings", x},
      {"--embeddings", x, "--seeded-embeddings", "1,2,3", "--layer", "demo"},
      {"--embeddings", x, "--layer", "demo", "--seeded-weights", "1"},
      {"--embeddings", x, "--weights-query", x},
      {"--embeddings", x, "--layer", "demo", "--bias-query", x},
      {"--embeddings", x, "--layer", "demo", "--request", "r.json"},
      {"--request", "r.json", "--heads", "2"},
      {"--request", folder_ + "/none.json"},
      {"--seeded-embeddings", "1,2", "--layer", "demo"},
      {"--seeded-embeddings", "1,-2,3", "--layer", "demo"},
      {"--embeddings", x, "--layer", "demo", "--causal", "middle"},
      {"--embeddings", x, "--layer", "demo", "--causal", "explicit:"},
      {"--embeddings", x, "--layer", "demo", "--causal", "explicit:1x"},
      {"--embeddings", x, "--layer", "demo", "--kind", "f64"},
      {"--embeddings", x, "--layer", "demo", "--heads", "-1"},
      {"--embeddings", x, "--layer", "demo", "--layout", "halves"},
      {"--embeddings", x, "--layer", "demo", "--position", "alibi", "--base", "2"},
      {"--embeddings", x, "--layer", "demo", "--position", "sinusoidal", "--rotary-size", "2"},
      {"--embeddings", x, "--layer", "demo", "--position", "rotary", "--table", x},
      {"--embeddings", x, "--layer", "demo", "--slopes", "1"},
      {"--embeddings", folder_ + "/none.npy", "--layer", "demo"},
  };
  for (const std::vector<std::string>& arguments : cases) {
    EXPECT_FALSE(Build(arguments).ok()) << ::testing::PrintToString(arguments);
  }
}

}  // namespace
}  // namespace headlight::cli
