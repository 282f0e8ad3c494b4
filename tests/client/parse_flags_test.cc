#include "client/cli/parse_flags.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace headlight::cli {
namespace {

// Refused, and the message begins with the flag and the value.
template <typename Result>
bool Refused(const Result& result, const std::string& flag, const std::string& text) {
  return result.code() == absl::StatusCode::kInvalidArgument &&
         absl::StartsWith(result.message(), absl::StrCat(flag, " ", text, " is not "));
}

TEST(ParseFlags, Alignments) {
  EXPECT_EQ(ParseAlignment("--x", "top-left")->alignment, v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  EXPECT_FALSE(ParseAlignment("--x", "top-left")->offset.has_value());
  EXPECT_EQ(ParseAlignment("--x", "bottom-right")->alignment, v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT);
  EXPECT_EQ(ParseAlignment("--x", "explicit:-3")->alignment, v1::CAUSAL_ALIGNMENT_EXPLICIT);
  EXPECT_EQ(ParseAlignment("--x", "explicit:-3")->offset, -3);
  for (const char* text : {"", "middle", "explicit", "explicit:", "explicit:1x", "explicit:1.5", "top-left:1"}) {
    EXPECT_TRUE(Refused(ParseAlignment("--x", text).status(), "--x", text)) << text;
  }
}

TEST(ParseFlags, Windows) {
  const auto both = ParseWindow("128,0");
  EXPECT_EQ(both->left(), 128);
  EXPECT_TRUE(both->has_right());
  EXPECT_EQ(both->right(), 0);
  for (const char* text : {"4,", "4,*"}) {
    EXPECT_EQ(ParseWindow(text)->left(), 4) << text;
    EXPECT_FALSE(ParseWindow(text)->has_right()) << text;
  }
  for (const char* text : {",2", "*,2"}) {
    EXPECT_FALSE(ParseWindow(text)->has_left()) << text;
    EXPECT_EQ(ParseWindow(text)->right(), 2) << text;
  }
  // The server's to refuse.
  EXPECT_FALSE(ParseWindow(",")->has_left());
  EXPECT_EQ(ParseWindow("-1,0")->left(), -1);
  for (const char* text : {"", "4", "4,0,1", "x,0", "4,1.5", "4;0", "9223372036854775808,0"}) {
    EXPECT_TRUE(Refused(ParseWindow(text).status(), "--window", text)) << text;
  }
}

TEST(ParseFlags, RotaryScalings) {
  v1::RotaryPositions rotary;
  ASSERT_TRUE(ParseRotaryScaling("linear:2.5", &rotary).ok());
  EXPECT_EQ(rotary.linear().factor(), 2.5);
  ASSERT_TRUE(ParseRotaryScaling("ntk:4", &rotary).ok());
  EXPECT_EQ(rotary.ntk_aware().factor(), 4);
  ASSERT_TRUE(ParseRotaryScaling("llama3:8,1,4,8192", &rotary).ok());
  EXPECT_EQ(rotary.llama3().factor(), 8);
  EXPECT_EQ(rotary.llama3().low_frequency_factor(), 1);
  EXPECT_EQ(rotary.llama3().high_frequency_factor(), 4);
  EXPECT_EQ(rotary.llama3().original_context(), 8192);
  ASSERT_TRUE(ParseRotaryScaling("yarn:4,4096", &rotary).ok());
  EXPECT_EQ(rotary.yarn().factor(), 4);
  EXPECT_EQ(rotary.yarn().original_context(), 4096);
  EXPECT_FALSE(rotary.yarn().has_beta_fast());
  ASSERT_TRUE(ParseRotaryScaling("yarn:4,4096,32,0.5", &rotary).ok());
  EXPECT_EQ(rotary.yarn().beta_fast(), 32);
  EXPECT_EQ(rotary.yarn().beta_slow(), 0.5);
  EXPECT_FALSE(rotary.yarn().has_attention_factor());
  ASSERT_TRUE(ParseRotaryScaling("yarn:4,4096,32,1,1.25", &rotary).ok());
  EXPECT_EQ(rotary.yarn().attention_factor(), 1.25);
}

TEST(ParseFlags, BadRotaryScalings) {
  for (const char* text :
       {"", "linear", "linear:", "linear:x", "linear:2,3", "ntk", "cubic:2", "llama3:8,1,4", "llama3:8,1,4,8192,1",
        "llama3:8,1,4,81.5", "yarn:4", "yarn:4,4096,32", "yarn:4,4096,32,1,1,1", "yarn:4,4096,32,x", "LINEAR:2"}) {
    v1::RotaryPositions rotary;
    const absl::Status status = ParseRotaryScaling(text, &rotary);
    EXPECT_TRUE(Refused(status, "--rotary-scaling", text)) << text;
    EXPECT_TRUE(absl::StrContains(status.message(), "llama3:FACTOR,LOW,HIGH,CONTEXT"));
  }
}

TEST(ParseFlags, Lists) {
  EXPECT_EQ(*ParseIntegers("--x", "0,-1,010"), (std::vector<std::int64_t>{0, -1, 10}));
  EXPECT_EQ(*ParseNumbers("--x", "0.5,-1,2e3"), (std::vector<float>{0.5F, -1, 2000}));
  for (const char* text : {"", ",", "1,", "1,,2", "x", "1.5", "1 2", "9223372036854775808"}) {
    EXPECT_TRUE(Refused(ParseIntegers("--x", text).status(), "--x", text)) << text;
  }
  for (const char* text : {"", ",", "1,", "x", "1;2"}) {
    EXPECT_TRUE(Refused(ParseNumbers("--x", text).status(), "--x", text)) << text;
  }
}

TEST(ParseFlags, Ranges) {
  const auto ranges = ParseRanges("--x", "0:4,10:12");
  ASSERT_EQ(ranges->size(), 2U);
  EXPECT_EQ(ranges->at(1).begin(), 10);
  EXPECT_EQ(ranges->at(1).end(), 12);
  for (const char* text : {"", "4", "0:", ":4", "0:4,", "0:4:5", "a:b"}) {
    EXPECT_TRUE(Refused(ParseRanges("--x", text).status(), "--x", text)) << text;
  }
}

TEST(ParseFlags, Maps) {
  EXPECT_TRUE(ParseMaps("all")->has_full());
  EXPECT_EQ(ParseMaps("all")->heads_size(), 0);
  EXPECT_EQ(ParseMaps("all")->stage(), v1::MAP_STAGE_UNSPECIFIED);
  EXPECT_TRUE(ParseMaps("0,2:full")->has_full());
  EXPECT_EQ(ParseMaps("0,2")->heads(1), 2U);
  EXPECT_EQ(ParseMaps("3:top=8")->top_keys().k(), 8U);
  EXPECT_TRUE(ParseMaps("all:columns")->has_column_sums());
  const auto pooled = ParseMaps("1:pooled=16x8,max");
  EXPECT_EQ(pooled->pooled().rows(), 16U);
  EXPECT_EQ(pooled->pooled().columns(), 8U);
  EXPECT_EQ(pooled->pooled().reducer(), v1::POOL_REDUCER_MAX);
  EXPECT_EQ(ParseMaps("1:pooled=1x1,mean")->pooled().reducer(), v1::POOL_REDUCER_MEAN);
  EXPECT_EQ(ParseMaps("1:pooled=1x1,sum")->pooled().reducer(), v1::POOL_REDUCER_SUM);
  EXPECT_EQ(ParseMaps("all@scaled")->stage(), v1::MAP_STAGE_SCALED);
  EXPECT_TRUE(ParseMaps("all@scaled")->has_full());
  EXPECT_EQ(ParseMaps("0:top=2@softcapped")->stage(), v1::MAP_STAGE_SOFTCAPPED);
  EXPECT_EQ(ParseMaps("0:columns@biased")->stage(), v1::MAP_STAGE_BIASED);
  EXPECT_EQ(ParseMaps("0:pooled=2x2,sum@weights")->stage(), v1::MAP_STAGE_WEIGHTS);
}

TEST(ParseFlags, BadMaps) {
  for (const char* text : {"",
                           ":",
                           "all:",
                           "x",
                           "0,",
                           "-1",
                           "0:top",
                           "0:top=",
                           "0:top=x",
                           "0:fullest",
                           "0-3",
                           "0:full:",
                           "0:pooled",
                           "0:pooled=",
                           "0:pooled=4",
                           "0:pooled=4x4",
                           "0:pooled=4x4,",
                           "0:pooled=4x4,min",
                           "0:pooled=4x4x4,max",
                           "0:pooled=ax4,max",
                           "0:pooled=4,4,max",
                           "0:columns=3",
                           "all@",
                           "@scaled",
                           "all@raw",
                           "all@scaled@biased",
                           "all@scaled:full"}) {
    EXPECT_TRUE(Refused(ParseMaps(text).status(), "--maps", text)) << text;
  }
}

}  // namespace
}  // namespace headlight::cli
