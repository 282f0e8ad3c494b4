#include "client/cli/draw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/maps.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

LabelledMap Cat() {
  return {{"the", "cat", "it"}, {"the", "cat", "it"}, {1, 0, 0, 0.25F, 0.75F, 0, 0.05F, 0.8F, 0.15F}};
}

LabelledMap Square(std::size_t size) {
  LabelledMap map;
  for (std::size_t i = 0; i < size; ++i) map.rows.push_back(absl::StrCat(i));
  map.keys = map.rows;
  map.weights.assign(size * size, 0.5F);
  return map;
}

TEST(Draw, PlainMapHasLabelsAndTwoDigits) {
  EXPECT_EQ(DrawMap(Cat(), {}),
            "     the  cat   it\n"
            "the 1.00 0.00 0.00\n"
            "cat 0.25 0.75 0.00\n"
            " it 0.05 0.80 0.15\n");
}

TEST(Draw, ColouredMapIsBrighterWhereTheWeightIsLarger) {
  const std::string text = DrawMap(Cat(), {.color = true});
  EXPECT_TRUE(absl::StrContains(text, "\x1b[48;5;255;38;5;232m 1.00\x1b[0m"));
  EXPECT_TRUE(absl::StrContains(text, "\x1b[48;5;232;38;5;255m 0.00\x1b[0m"));
  EXPECT_TRUE(absl::StrContains(text, "\x1b[48;5;250;38;5;232m 0.80\x1b[0m"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\x1b'), 18);
  EXPECT_TRUE(absl::StartsWith(text, "     the  cat   it\n"));
}

TEST(Draw, LongLabelsAreCut) {
  LabelledMap map = {{"a-very-long-row-label"}, {"internationally"}, {1}};
  EXPECT_EQ(DrawMap(map, {}), "                 interna~\na-very-long-row~     1.00\n");
}

TEST(Draw, CodePointsCountOnce) {
  LabelledMap map = {{"gr\xc3\xbc\xc3\x9f"}, {"\xc3\xa4"}, {0.5F}};
  EXPECT_EQ(DrawMap(map, {}), "        \xc3\xa4\ngr\xc3\xbc\xc3\x9f 0.50\n");
}

TEST(Draw, WideMapsBecomeBlocks) {
  const std::string text = DrawMap(Square(50), {.color = false, .width = 60});
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 50U);
  EXPECT_EQ(lines[0], absl::StrCat(" 0 ", std::string(50, '+')));
  EXPECT_TRUE(absl::StrContains(DrawMap(Square(50), {.color = true, .width = 60}), "m \x1b[0m"));
}

TEST(Draw, HugeMapsAreCutAndSaySo) {
  const std::string text = DrawMap(Square(200), {.color = false, .width = 60});
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 65U);
  EXPECT_EQ(lines[63].size(), 60U);
  EXPECT_EQ(lines[64], "(rows 0..63 of 200, keys 0..56 of 200)");
  EXPECT_FALSE(DrawMap(Square(3), {.color = false, .width = 1}).empty());
}

TEST(Draw, RawScoresAndNonNumbersAreSafe) {
  const float infinity = std::numeric_limits<float>::infinity();
  LabelledMap map = {{"0"}, {"0", "1", "2", "3"}, {-infinity, infinity, std::nanf(""), -3}};
  EXPECT_EQ(DrawMap(map, {}), "        0       1       2       3\n0    -inf     inf     nan   -3.00\n");
  EXPECT_FALSE(DrawMap(map, {.color = true}).empty());
  EXPECT_EQ(DrawMap(map, {.color = false, .width = 8}), "0  @  \n");
}

TEST(Sentence, NamesTheLargestWeight) {
  EXPECT_EQ(Sentence(Cat(), 2), "it attends most to cat (0.80)");
  EXPECT_EQ(Sentence(Cat(), 0), "the attends most to the (1.00)");
}

TEST(Sentence, TiesGoToTheFirstKey) {
  LabelledMap map = {{"it"}, {"a", "b", "c"}, {0.2F, 0.4F, 0.4F}};
  EXPECT_EQ(Sentence(map, 0), "it attends most to b (0.40)");
}

TEST(Sentence, RowsThatSeeNothing) {
  LabelledMap map = {{"it"}, {"a", "b"}, {0, 0}};
  EXPECT_EQ(Sentence(map, 0), "it attends to nothing");
}

v1::WeightMap FullMap(const std::vector<float>& weights, std::int64_t rows, std::int64_t keys) {
  v1::WeightMap map;
  map.set_stage(v1::MAP_STAGE_WEIGHTS);
  map.set_row_end(rows);
  *map.mutable_weights() = *client::MakeTensor(weights, {rows, keys}, v1::TENSOR_KIND_F16);
  return map;
}

TEST(Maps, LabelsByWordsOrNumbers) {
  v1::WeightMap map = FullMap({0.75F, 0.25F}, 1, 2);
  map.set_row_begin(1);
  map.set_key_begin(2);
  const auto labelled = Label(map, {{"a", "b"}, {}});
  ASSERT_TRUE(labelled.ok());
  EXPECT_EQ(labelled->rows, std::vector<std::string>{"b"});
  EXPECT_EQ(labelled->keys, (std::vector<std::string>{"2", "3"}));
  EXPECT_EQ(Sentence(*labelled, 0), "b attends most to 2 (0.75)");
}

TEST(Maps, WordsCannotSteerTheTerminal) {
  const auto labelled = Label(FullMap({1}, 1, 1), {{"\x1b[2J"},
                                                   {"\xc2\x9b"
                                                    "x\n"}});
  EXPECT_EQ(labelled->rows[0], "?[2J");
  EXPECT_EQ(labelled->keys[0], "?x?");
}

TEST(Maps, ShowsFullMapsWithSentences) {
  const auto text = Show(FullMap({0.75F, 0.25F}, 1, 2), {{"it"}, {"a", "b"}}, {});
  EXPECT_EQ(text.value(), "batch 0, head 0\n      a    b\nit 0.75 0.25\nit attends most to a (0.75)\n");
}

TEST(Maps, ShowsRawScoresWithoutSentences) {
  v1::WeightMap map = FullMap({-3, 2}, 1, 2);
  map.set_stage(v1::MAP_STAGE_SCALED);
  EXPECT_EQ(Show(map, {{"it"}, {"a", "b"}}, {}).value(),
            "batch 0, head 0, MAP_STAGE_SCALED\n         a       b\nit   -3.00    2.00\n");
}

TEST(Maps, ShowsTopKeys) {
  v1::WeightMap map;
  for (const std::uint32_t count : {2, 0}) map.mutable_top_keys()->add_counts(count);
  for (const std::uint32_t key : {1, 0}) map.mutable_top_keys()->add_keys(key);
  for (const float weight : {0.8F, 0.2F}) map.mutable_top_keys()->add_weights(weight);
  EXPECT_EQ(Show(map, {{"it", "was"}, {"a", "b"}}, {}).value(),
            "batch 0, head 0, MAP_STAGE_UNSPECIFIED\nit: b (0.80), a (0.20)\nwas: nothing\n");
}

TEST(Maps, AnswersThatContradictThemselvesAreErrors) {
  v1::WeightMap map = FullMap({1, 2}, 1, 2);
  map.mutable_weights()->set_shape(1, 1'000'000);
  EXPECT_FALSE(Show(map, {}, {}).ok());
  map.mutable_weights()->add_shape(1);
  EXPECT_FALSE(Show(map, {}, {}).ok());
  EXPECT_FALSE(Show(FullMap({}, 0, 0), {}, {}).ok());
  EXPECT_FALSE(Show(v1::WeightMap(), {}, {}).ok());
  v1::WeightMap top;
  top.mutable_top_keys()->add_counts(4'000'000'000);
  EXPECT_FALSE(Show(top, {}, {}).ok());
  top.mutable_top_keys()->add_keys(0);
  EXPECT_FALSE(Show(top, {}, {}).ok());
}

TEST(Maps, OnlyRows) {
  const LabelledMap part = OnlyRows(Cat(), {2, 0});
  EXPECT_EQ(part.rows, (std::vector<std::string>{"it", "the"}));
  EXPECT_EQ(part.weights, (std::vector<float>{0.05F, 0.8F, 0.15F, 1, 0, 0}));
}

}  // namespace
}  // namespace headlight::cli
