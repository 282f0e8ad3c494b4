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

TEST(Sentence, NoNumbers) {
  LabelledMap map = {{"it"}, {"a", "b"}, {1, std::nanf("")}};
  EXPECT_EQ(Sentence(map, 0), "it attends to what is no number");
}

TEST(Draw, BrightnessFitsTheFiniteValues) {
  const float infinity = std::numeric_limits<float>::infinity();
  LabelledMap map = {{"0"}, {"0", "1", "2", "3"}, {-infinity, 4, 6, std::nanf("")}};
  FitBrightness(false, &map);
  EXPECT_EQ(map.darkest, 4);
  EXPECT_EQ(map.brightest, 6);
  FitBrightness(true, &map);
  EXPECT_EQ(map.darkest, 0);
  EXPECT_EQ(DrawMap(map, {.color = false, .width = 8}), "0  *@ \n");
  LabelledMap none = {{"0"}, {"0"}, {-infinity}};
  FitBrightness(false, &none);
  EXPECT_EQ(none.brightest, 1);
}

TEST(Maps, OnlyRows) {
  const LabelledMap part = OnlyRows(Cat(), {2, 0});
  EXPECT_EQ(part.rows, (std::vector<std::string>{"it", "the"}));
  EXPECT_EQ(part.weights, (std::vector<float>{0.05F, 0.8F, 0.15F, 1, 0, 0}));
}

}  // namespace
}  // namespace headlight::cli
