#include "server/layers/safetensors.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"
#include "tests/layers/files.h"

namespace headlight {
namespace {

using testing::FileOf;
using testing::Numbers;

constexpr char kOne[] = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
const std::string kData(8, '\0');

TEST(Safetensors, GivesViewsOfTensorsAndMetadata) {
  const std::string file = FileOf({{"a", Numbers({2, 3}, 1).Store()},
                                   {"b", Numbers({4}, 2).Store("BF16")},
                                   {"c", {"I64", {}, std::string(8, 'x')}}},
                                  {{"k", "v"}});
  const auto parsed = ParseSafetensors(file);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->metadata.at("k"), "v");
  ASSERT_EQ(parsed->tensors.size(), 3U);
  EXPECT_EQ(parsed->tensors.at("a").shape, (Shape{2, 3}));
  EXPECT_EQ(parsed->tensors.at("a").kind, TensorKind::kF32);
  EXPECT_EQ(std::string(parsed->tensors.at("a").bytes), Numbers({2, 3}, 1).Store().bytes);
  EXPECT_EQ(parsed->tensors.at("b").kind, TensorKind::kBF16);
  EXPECT_EQ(parsed->tensors.at("c").kind, std::nullopt);
  EXPECT_EQ(parsed->tensors.at("c").bytes, "xxxxxxxx");
  EXPECT_EQ(parsed->tensors.at("c").bytes.data() + 8, file.data() + file.size());
}

TEST(Safetensors, OrderOfTheHeaderNeedNotBeThatOfTheData) {
  const std::string file = FileOf(
      R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"F4","shape":[4],"data_offsets":[1,3]}}   )",
      "xyz");  // what was parsed points into it
  const auto parsed = ParseSafetensors(file);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->tensors.at("a").bytes, "yz");
  EXPECT_TRUE(ParseSafetensors(FileOf("{}", "")).ok());
}

struct Bad {
  const char* name;
  std::string file;
  std::string field, got;  // of the first violation; `got` is a part of it
};

class Malformed : public ::testing::TestWithParam<Bad> {};

TEST_P(Malformed, IsRefusedAndSaidWhere) {
  const Bad& bad = GetParam();
  const absl::Status status = ParseSafetensors(bad.file).status();
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const ErrorDetails details = DetailsOf(status);
  ASSERT_FALSE(details.violations.empty());
  EXPECT_EQ(details.violations[0].field, bad.field);
  EXPECT_NE(details.violations[0].got.find(bad.got), std::string::npos) << details.violations[0].got;
}

std::string Entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return absl::StrCat(R"({"a":{"dtype":)", dtype, R"(,"shape":)", shape, R"(,"data_offsets":)", offsets, "}}");
}

std::string ManyTensors() {
  std::string header = "{";
  for (int i = 0; i <= kMostTensors; ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"", i, R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  }
  return header + "}";
}

std::string Length(std::uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(length >> (8 * i)));
  return bytes;
}

INSTANTIATE_TEST_SUITE_P(
    Files, Malformed,
    ::testing::Values(
        Bad{"empty", "", "file", "0 bytes"}, Bad{"short", "1234567", "file", "7 bytes"},
        Bad{"long_header", Length(9 << 20) + "{}", "header", "9437184 bytes"},
        Bad{"endless_header", Length(~std::uint64_t{0}) + "{}", "header", "18446744073709551615"},
        Bad{"cut_header", FileOf(kOne, "").substr(0, 30), "header", "bytes"},
        Bad{"no_header", FileOf("", ""), "header", "nothing"},
        Bad{"space_first", FileOf(" {}", ""), "header", "first byte"},
        Bad{"array", FileOf("[]", ""), "header", "first byte"}, Bad{"no_json", FileOf("{,}", ""), "header", "no JSON"},
        Bad{"unclosed", FileOf("{\"a\":", ""), "header", "no JSON"},
        Bad{"after", FileOf(std::string(kOne) + "x", kData), "header", "no JSON"},
        Bad{"two", FileOf("{}{}", ""), "header", "no JSON"},
        Bad{"no_utf8", FileOf("{\"\xff\":1}", ""), "header", "no JSON"},
        Bad{"number", FileOf(R"({"a":1})", ""), "tensors[\"a\"]", "a number"},
        Bad{"null", FileOf(R"({"a":null})", ""), "tensors[\"a\"]", "null"},
        Bad{"list", FileOf(R"({"a":[]})", ""), "tensors[\"a\"]", "an array"},
        Bad{"deep", FileOf(R"({"a":{"dtype":{"x":1}}})", ""), "tensors[\"a\"].dtype", "an object"},
        Bad{"deep_shape", FileOf(Entry("\"F32\"", "[[[[[2]]]]]", "[0,8]"), kData), "tensors[\"a\"].shape", "an array"},
        Bad{"deeper", FileOf("{\"a\":{\"shape\":" + std::string(1 << 20, '[') + "}}", ""), "tensors[\"a\"].shape",
            "an array"},
        Bad{"twice", FileOf(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}})", ""), "tensors[\"a\"]",
            "twice"},
        Bad{"field_twice", FileOf(R"({"a":{"dtype":"U8","dtype":"U8"}})", ""), "tensors[\"a\"].dtype", "twice"},
        Bad{"metadata_twice", FileOf(R"({"__metadata__":{},"__metadata__":{}})", ""), "header.__metadata__", "twice"},
        Bad{"key_twice", FileOf(R"({"__metadata__":{"a":"1","a":"2"}})", ""), "header.__metadata__[\"a\"]", "twice"},
        Bad{"metadata_number", FileOf(R"({"__metadata__":{"a":1}})", ""), "header.__metadata__[\"a\"]", "a number"},
        Bad{"metadata_text", FileOf(R"({"__metadata__":"a"})", ""), "header.__metadata__", "a text"},
        Bad{"unknown_field", FileOf(R"({"a":{"offset":1}})", ""), "tensors[\"a\"]", "offset"},
        Bad{"missing_field", FileOf(R"({"a":{"dtype":"U8","shape":[0]}})", ""), "tensors[\"a\"]", "2 fields"},
        Bad{"many", FileOf(ManyTensors(), ""), "header", "more tensors"},
        Bad{"dtype", FileOf(Entry("\"F33\"", "[2]", "[0,8]"), kData), "tensors[\"a\"].dtype", "F33"},
        Bad{"dtype_number", FileOf(Entry("1", "[2]", "[0,8]"), kData), "tensors[\"a\"].dtype", "a number"},
        Bad{"negative", FileOf(Entry("\"F32\"", "[-2]", "[0,8]"), kData), "tensors[\"a\"].shape", "-2"},
        Bad{"fraction", FileOf(Entry("\"F32\"", "[2.0]", "[0,8]"), kData), "tensors[\"a\"].shape", "2.0"},
        Bad{"text", FileOf(Entry("\"F32\"", "[\"2\"]", "[0,8]"), kData), "tensors[\"a\"].shape", "a text"},
        Bad{"rank", FileOf(Entry("\"F32\"", "[2,1,1,1,1,1,1,1,1]", "[0,8]"), kData), "tensors[\"a\"].shape",
            "more numbers"},
        Bad{"huge", FileOf(Entry("\"F32\"", "[9223372036854775807]", "[0,8]"), kData), "tensors[\"a\"].shape",
            "9223372036854775807"},
        Bad{"overflow", FileOf(Entry("\"F32\"", "[4294967296,4294967296]", "[0,8]"), kData), "tensors[\"a\"].shape",
            "4294967296"},
        Bad{"overflow_bits", FileOf(Entry("\"F64\"", "[2305843009213693952]", "[0,8]"), kData), "tensors[\"a\"].shape",
            "2305843009213693952"},
        Bad{"wrap_to_zero", FileOf(Entry("\"F32\"", "[4611686018427387904]", "[0,0]"), ""), "tensors[\"a\"].shape",
            "4611686018427387904"},
        Bad{"one_offset", FileOf(Entry("\"F32\"", "[2]", "[0]"), kData), "tensors[\"a\"].data_offsets", "[0]"},
        Bad{"three_offsets", FileOf(Entry("\"F32\"", "[2]", "[0,8,8]"), kData), "tensors[\"a\"].data_offsets",
            "more numbers"},
        Bad{"turned_offsets", FileOf(Entry("\"F32\"", "[2]", "[8,0]"), kData), "tensors[\"a\"].data_offsets", "[8, 0]"},
        Bad{"outside", FileOf(Entry("\"F32\"", "[2]", "[4,12]"), kData), "tensors[\"a\"].data_offsets", "[4, 12]"},
        Bad{"size", FileOf(Entry("\"F32\"", "[3]", "[0,8]"), kData), "tensors[\"a\"].data_offsets", "8 bytes"},
        Bad{"half_a_byte", FileOf(Entry("\"F4\"", "[3]", "[0,1]"), "x"), "tensors[\"a\"].data_offsets", "1 bytes"},
        Bad{"rest", FileOf(kOne, kData + "x"), "file", "9 bytes of data"},
        Bad{"hole_first", FileOf(Entry("\"F32\"", "[1]", "[4,8]"), kData), "tensors[\"a\"].data_offsets", "[4, 8]"},
        Bad{"overlap",
            FileOf(
                R"({"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                kData),
            "tensors[\"b\"].data_offsets", "[4, 8]"},
        Bad{"hole",
            FileOf(
                R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                kData),
            "tensors[\"b\"].data_offsets", "[4, 8]"}),
    [](const auto& bad) { return std::string(bad.param.name); });

TEST(Safetensors, TellsOfEveryTensorAtOnce) {
  const absl::Status status =
      ParseSafetensors(
          FileOf(
              R"({"a":{"dtype":"X","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[5,9]}})",
              "x"))
          .status();
  EXPECT_EQ(DetailsOf(status).violation_count, 2);
}

TEST(Safetensors, WritesWhatItReads) {
  const std::string file = SafetensorsHeader({{"query", {2, 3}}, {"key", {1}}}) + std::string(28, '\0');
  const auto parsed = ParseSafetensors(file);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->tensors.at("query").shape, (Shape{2, 3}));
  EXPECT_EQ(parsed->tensors.at("key").shape, (Shape{1}));
  EXPECT_EQ((file.size() - 28) % 8, 0U);
}

}  // namespace
}  // namespace headlight
