#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "client/cli/request_flags.h"

// Each option of the contract from its flag into the request.
namespace headlight::cli {
namespace {

// Parses the flags as `attend` does, on a small input.
absl::StatusOr<v1::AttendRequest> Build(std::vector<std::string> arguments) {
  CLI::App app;
  RequestFlags flags;
  AddRequestFlags(app, flags);
  arguments.insert(arguments.begin(), {"--seeded-embeddings", "1,4,8", "--layer", "demo"});
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return absl::FailedPreconditionError(error.what());
  }
  return BuildRequest(flags);
}

v1::AttentionOptions OptionsOf(std::vector<std::string> arguments) {
  const auto request = Build(std::move(arguments));
  EXPECT_TRUE(request.ok()) << request.status();
  return request.ok() ? request->options() : v1::AttentionOptions();
}

template <typename Field>
auto ListOf(const Field& field) {
  return std::vector<typename Field::value_type>(field.begin(), field.end());
}

TEST(OptionFlags, NothingIsSetUnasked) {
  const v1::AttentionOptions options = OptionsOf({});
  EXPECT_FALSE(options.has_mask());
  EXPECT_FALSE(options.has_softcap());
  EXPECT_TRUE(options.sinks().empty());
  EXPECT_TRUE(options.head_gains().empty());
  EXPECT_EQ(options.precision(), v1::COMPUTE_PRECISION_UNSPECIFIED);
  EXPECT_FALSE(options.allow_non_finite());
}

TEST(OptionFlags, Window) {
  const v1::WindowMask window = OptionsOf({"--window", "128,0"}).mask().window();
  EXPECT_EQ(window.left(), 128);
  EXPECT_TRUE(window.has_right());
  EXPECT_EQ(window.alignment(), v1::CAUSAL_ALIGNMENT_UNSPECIFIED);
  EXPECT_FALSE(window.has_offset());
  EXPECT_FALSE(OptionsOf({"--window", "*,3"}).mask().window().has_left());
  EXPECT_EQ(OptionsOf({"--window", ",3"}).mask().window().right(), 3);
  EXPECT_EQ(OptionsOf({"--window", "-1,3"}).mask().window().left(), -1);
  EXPECT_TRUE(OptionsOf({"--window", ","}).mask().has_window());
}

TEST(OptionFlags, WindowAlignment) {
  const auto aligned = [](const std::string& text) {
    return OptionsOf({"--window", "2,2", "--window-alignment", text}).mask().window();
  };
  EXPECT_EQ(aligned("top-left").alignment(), v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  EXPECT_EQ(aligned("bottom-right").alignment(), v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT);
  EXPECT_EQ(aligned("explicit:-2").alignment(), v1::CAUSAL_ALIGNMENT_EXPLICIT);
  EXPECT_EQ(aligned("explicit:-2").offset(), -2);
}

TEST(OptionFlags, Segments) {
  const v1::Segments same = OptionsOf({"--segments", "0,0,1,1"}).mask().segments();
  EXPECT_EQ(ListOf(same.query_ids()), (std::vector<std::int64_t>{0, 0, 1, 1}));
  EXPECT_EQ(ListOf(same.key_ids()), ListOf(same.query_ids()));
  const v1::Segments other = OptionsOf({"--segments", "0,1", "--key-segments", "-7,0,1"}).mask().segments();
  EXPECT_EQ(ListOf(other.query_ids()), (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(ListOf(other.key_ids()), (std::vector<std::int64_t>{-7, 0, 1}));
}

TEST(OptionFlags, Numbers) {
  EXPECT_EQ(OptionsOf({"--softcap", "30.5"}).softcap(), 30.5);
  EXPECT_EQ(OptionsOf({"--softcap", "-1"}).softcap(), -1);
  EXPECT_EQ(ListOf(OptionsOf({"--sinks", "-0.5,2"}).sinks()), (std::vector<float>{-0.5F, 2}));
  EXPECT_EQ(ListOf(OptionsOf({"--head-gains", "0,1,0.25"}).head_gains()), (std::vector<float>{0, 1, 0.25F}));
  EXPECT_EQ(OptionsOf({"--precision", "float32"}).precision(), v1::COMPUTE_PRECISION_FLOAT32);
  EXPECT_EQ(OptionsOf({"--precision", "bfloat16"}).precision(), v1::COMPUTE_PRECISION_BFLOAT16);
  EXPECT_TRUE(OptionsOf({"--allow-non-finite"}).allow_non_finite());
}

TEST(OptionFlags, Positions) {
  const v1::PositionScheme scheme =
      OptionsOf({"--position", "alibi", "--query-positions", "0,1,-1,3", "--key-positions", "5,6,7,8"}).position();
  EXPECT_EQ(ListOf(scheme.query_positions()), (std::vector<std::int64_t>{0, 1, -1, 3}));
  EXPECT_EQ(ListOf(scheme.key_positions()), (std::vector<std::int64_t>{5, 6, 7, 8}));
  EXPECT_FALSE(scheme.has_query_offset());
}

TEST(OptionFlags, RotaryScaling) {
  const auto rotary = [](const std::string& scaling) {
    return OptionsOf({"--position", "rotary", "--layout", "halves", "--rotary-scaling", scaling}).position().rotary();
  };
  EXPECT_EQ(rotary("linear:2").linear().factor(), 2);
  EXPECT_EQ(rotary("ntk:2").ntk_aware().factor(), 2);
  EXPECT_EQ(rotary("llama3:8,1,4,8192").llama3().original_context(), 8192);
  EXPECT_EQ(rotary("yarn:4,4096,32,1,1.1").yarn().attention_factor(), 1.1);
  EXPECT_EQ(rotary("yarn:4,4096").layout(), v1::CHANNEL_LAYOUT_HALVES);
}

// The message names the flag and what is allowed.
TEST(OptionFlags, BadValues) {
  const std::vector<std::vector<std::string>> cases = {
      {"--window", "4", "LEFT,RIGHT"},
      {"--window", "", "empty"},
      {"--window-alignment", "top-left", "--window"},
      {"--segments", "0,x", "whole numbers"},
      {"--segments", "", "empty"},
      {"--key-segments", "0,1", "--segments"},
      {"--softcap", "soft", "number"},
      {"--softcap", "", "number"},
      {"--sinks", "1,,2", "numbers"},
      {"--head-gains", "a", "numbers"},
      {"--query-positions", "1.5", "whole numbers"},
      {"--key-positions", "", "empty"},
      {"--rotary-scaling", "linear:2", "has no use with --position none"},
      {"--precision", "float64", "float32,bfloat16"},
      {"--causal", "", "empty"},
      {"--causal", "middle", "top-left, bottom-right and explicit:OFFSET"},
  };
  for (const std::vector<std::string>& bad : cases) {
    const absl::Status status = Build({bad[0], bad[1]}).status();
    EXPECT_FALSE(status.ok()) << bad[0] << " " << bad[1];
    EXPECT_TRUE(absl::StrContains(status.message(), bad[0])) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), bad[2])) << status;
  }
  const absl::Status window = Build({"--window", "1,1", "--window-alignment", "centre"}).status();
  EXPECT_TRUE(absl::StartsWith(window.message(), "--window-alignment centre is not one of")) << window;
  const absl::Status keys = Build({"--segments", "1,1", "--key-segments", "1;1"}).status();
  EXPECT_TRUE(absl::StartsWith(keys.message(), "--key-segments 1;1 is not a list")) << keys;
  const absl::Status scaling = Build({"--position", "rotary", "--rotary-scaling", "cubic:2"}).status();
  EXPECT_TRUE(absl::StartsWith(scaling.message(), "--rotary-scaling cubic:2 is not one of linear:FACTOR")) << scaling;
}

TEST(OptionFlags, ARequestFileSaysItAll) {
  for (const char* flag : {"--window", "--segments", "--softcap", "--sinks", "--head-gains", "--query-positions",
                           "--key-positions", "--precision"}) {
    CLI::App app;
    RequestFlags flags;
    AddRequestFlags(app, flags);
    EXPECT_TRUE(app.get_option("--request")->get_excludes().count(app.get_option(flag)) > 0) << flag;
  }
}

}  // namespace
}  // namespace headlight::cli
