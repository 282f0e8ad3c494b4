#include "client/cli/output_flags.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"

namespace headlight::cli {
namespace {

// Parses the flags as `attend` does.
absl::StatusOr<v1::OutputSelection> Select(std::vector<std::string> arguments) {
  CLI::App app;
  OutputFlags flags;
  AddOutputFlags(app, flags);
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return absl::FailedPreconditionError(error.what());
  }
  v1::OutputSelection outputs;
  if (absl::Status status = AddOutputs(flags, &outputs); !status.ok()) return status;
  return outputs;
}

TEST(Outputs, FlagsBecomeASelection) {
  OutputFlags flags;
  flags.maps = {"all", "1:top=2"};
  flags.log_sum_exp = "l.npy";
  flags.no_output = true;
  v1::OutputSelection outputs;
  ASSERT_TRUE(AddOutputs(flags, &outputs).ok());
  EXPECT_TRUE(outputs.omit_output());
  EXPECT_TRUE(outputs.log_sum_exp());
  EXPECT_FALSE(outputs.head_outputs());
  EXPECT_EQ(outputs.maps_size(), 2);
  flags = OutputFlags();
  flags.maps_out = "x.npy";
  EXPECT_FALSE(AddOutputs(flags, std::make_unique<v1::OutputSelection>().get()).ok());
  flags.maps = {"all:top=2"};
  EXPECT_FALSE(AddOutputs(flags, std::make_unique<v1::OutputSelection>().get()).ok());
  flags = OutputFlags();
  flags.show = true;
  v1::OutputSelection shown;
  ASSERT_TRUE(AddOutputs(flags, &shown).ok());
  EXPECT_TRUE(shown.maps(0).has_full());
}

TEST(Outputs, Selection) {
  const auto outputs = Select(
      {"--statistics", "--verify-rows", "16", "--out-kind", "bf16", "--max-response-bytes", "18446744073709551615"});
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  EXPECT_TRUE(outputs->head_statistics());
  EXPECT_EQ(outputs->verify_rows(), 16U);
  EXPECT_EQ(outputs->tensor_kind(), v1::TENSOR_KIND_BF16);
  EXPECT_EQ(outputs->max_response_bytes(), 18446744073709551615U);
  EXPECT_EQ(Select({"--out-kind", "f16"})->tensor_kind(), v1::TENSOR_KIND_F16);
  EXPECT_EQ(Select({"--out-kind", "f32"})->tensor_kind(), v1::TENSOR_KIND_F32);
  EXPECT_TRUE(Select({"--no-output"})->omit_output());
  EXPECT_EQ(Select({})->SerializeAsString(), "");
}

TEST(Outputs, RangesHoldForEveryMap) {
  const auto outputs = Select({"--maps", "all", "--maps", "0:pooled=4x2,mean@scaled", "--map-rows", "0:4,10:12",
                               "--map-keys", "2:100", "--map-batches", "1,0"});
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  ASSERT_EQ(outputs->maps_size(), 2);
  EXPECT_EQ(outputs->maps(1).stage(), v1::MAP_STAGE_SCALED);
  EXPECT_EQ(outputs->maps(1).pooled().rows(), 4U);
  for (const v1::WeightMaps& maps : outputs->maps()) {
    ASSERT_EQ(maps.rows_size(), 2);
    EXPECT_EQ(maps.rows(1).begin(), 10);
    EXPECT_EQ(maps.rows(1).end(), 12);
    EXPECT_EQ(maps.keys().begin(), 2);
    EXPECT_EQ(maps.keys().end(), 100);
    EXPECT_EQ(maps.batches(0), 1U);
    EXPECT_EQ(maps.batches_size(), 2);
  }
}

TEST(Outputs, ShowAndExplainAddTheMapThatTheyNeed) {
  const auto explained = Select({"--explain", "--map-rows", "1:2"});
  EXPECT_EQ(explained->maps(0).top_keys().k(), 1U);
  EXPECT_EQ(explained->maps(0).heads_size(), 0);
  EXPECT_EQ(explained->maps(0).rows(0).begin(), 1);
  const auto both = Select({"--explain", "--show"});
  EXPECT_EQ(both->maps_size(), 1);
  EXPECT_TRUE(both->maps(0).has_full());
  const auto asked = Select({"--explain", "--maps", "2:columns"});
  EXPECT_EQ(asked->maps_size(), 1);
  EXPECT_TRUE(asked->maps(0).has_column_sums());
  v1::OutputSelection from_file;
  from_file.add_maps()->mutable_full();
  OutputFlags flags;
  flags.explain = true;
  ASSERT_TRUE(AddOutputs(flags, &from_file).ok());
  EXPECT_EQ(from_file.maps_size(), 1);
  flags.map_rows = "0:1";
  EXPECT_TRUE(absl::StartsWith(AddOutputs(flags, &from_file).message(), "--map-rows has no use without --maps"));
}

// The message names the flag and what is allowed.
TEST(Outputs, BadValues) {
  const std::vector<std::vector<std::string>> cases = {
      {"--maps", "x", "HEADS"},
      {"--maps", "0:pooled=4x4", "max|mean|sum"},
      {"--maps", "0@raw", "softcapped"},
      {"--map-rows", "0:1", "no use without --maps"},
      {"--map-keys", "0:1", "no use without --maps"},
      {"--map-batches", "0", "no use without --maps"},
      {"--map-batches", "-1", "whole number"},
      {"--map-batches", "x", "whole number"},
      {"--maps-out", "m.json", "no use without --maps"},
      {"--verify-rows", "-1", "whole number"},
      {"--verify-rows", "1.5", "whole number"},
      {"--verify-rows", "4294967296", "--verify-rows"},
      {"--max-response-bytes", "-1", "whole number"},
      {"--max-response-bytes", "1k", "whole number"},
      {"--max-response-bytes", "18446744073709551616", "whole number"},
      {"--out-kind", "bool", "f32,f16,bf16"},
  };
  for (const std::vector<std::string>& bad : cases) {
    const absl::Status status = Select({bad[0], bad[1]}).status();
    EXPECT_FALSE(status.ok()) << bad[0] << " " << bad[1];
    EXPECT_TRUE(absl::StrContains(status.message(), bad[0])) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), bad[2])) << status;
  }
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{{"--map-rows", "0-4"},
                                                                                   {"--map-rows", ""},
                                                                                   {"--map-keys", "4"},
                                                                                   {"--map-keys", "0:1,2:3"},
                                                                                   {"--map-keys", ""}}) {
    const absl::Status status = Select({"--maps", "all", bad[0], bad[1]}).status();
    EXPECT_FALSE(status.ok()) << bad[0] << " " << bad[1];
    EXPECT_TRUE(absl::StrContains(status.message(), bad[0])) << status;
  }
}

}  // namespace
}  // namespace headlight::cli
