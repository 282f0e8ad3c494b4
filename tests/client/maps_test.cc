#include "client/cli/maps.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows from 0, one per row of the array.
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
            "batch 0, head 0, scaled\n         a       b\nit   -3.00    2.00\n");
}

TEST(Maps, ShowsTopKeys) {
  v1::WeightMap map;
  for (const std::uint32_t count : {2, 0}) map.mutable_top_keys()->add_counts(count);
  for (const std::uint32_t key : {1, 0}) map.mutable_top_keys()->add_keys(key);
  for (const float weight : {0.8F, 0.2F}) map.mutable_top_keys()->add_weights(weight);
  EXPECT_EQ(Show(map, {{"it", "was"}, {"a", "b"}}, {}).value(),
            "batch 0, head 0, unspecified\nit: b (0.80), a (0.20)\nwas: nothing\n");
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

v1::WeightMap TopMap(const std::vector<std::uint32_t>& keys, const std::vector<float>& weights) {
  v1::WeightMap map;
  map.set_stage(v1::MAP_STAGE_WEIGHTS);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    map.mutable_top_keys()->add_counts(1);
    map.mutable_top_keys()->add_keys(keys[i]);
    map.mutable_top_keys()->add_weights(weights[i]);
  }
  return map;
}

TEST(Maps, PooledMapsNameTheFirstOfEachCell) {
  v1::WeightMap map = FullMap({0, 1, 2, 3}, 2, 2);
  map.set_row_begin(4);
  map.set_row_end(9);
  map.set_key_begin(10);
  const MapForm form = {.reducer = v1::POOL_REDUCER_SUM, .keys = 7};
  // Brightest is the largest value, whatever it is.
  EXPECT_EQ(Show(map, {}, {.color = false, .width = 4}, form).value(),
            "batch 0, head 0, pooled: the sum of each cell, named by its first row and key\n4  -\n6 *@\n");
  const auto labelled = Label(map, {}, form);
  ASSERT_TRUE(labelled.ok());
  EXPECT_EQ(labelled->rows, (std::vector<std::string>{"4", "6"}));
  EXPECT_EQ(labelled->keys, (std::vector<std::string>{"10", "13"}));
  EXPECT_EQ(labelled->brightest, 3);
  // Seven words fall into two cells: words where there are any, the cell's number where the keys are not known.
  EXPECT_EQ(Label(map, {{}, std::vector<std::string>(20, "w")}, form)->keys[1], "w");
  EXPECT_EQ(Label(map, {}, {.reducer = v1::POOL_REDUCER_SUM})->keys, (std::vector<std::string>{"0", "1"}));
}

TEST(Maps, FaintPooledMapsShowTheirDigits) {
  v1::WeightMap map;
  map.set_stage(v1::MAP_STAGE_WEIGHTS);
  map.set_row_end(1);
  *map.mutable_weights() = *client::MakeTensor({0, 0.00006F, 0.0012F}, {1, 3}, v1::TENSOR_KIND_F32);
  EXPECT_EQ(Show(map, {}, {}, {.reducer = v1::POOL_REDUCER_MEAN, .keys = 3}).value(),
            "batch 0, head 0, pooled: the mean of each cell, named by its first row and key\n"
            "        0       1       2\n"
            "0       0   6e-05  0.0012\n");
}

TEST(Maps, ColumnSumsAreOneRow) {
  v1::WeightMap map;
  map.set_stage(v1::MAP_STAGE_WEIGHTS);
  map.set_row_begin(1);
  map.set_row_end(4);
  map.set_key_begin(1);
  *map.mutable_weights() = *client::MakeTensor({0.5F, 2.5F}, {2}, v1::TENSOR_KIND_F32);
  EXPECT_EQ(Show(map, {{}, {"a", "b", "c"}}, {}).value(),
            "batch 0, head 0, sums over rows 1..3\n"
            "          b       c\n"
            "sum    0.50    2.50\n"
            "c is attended most (2.50)\n");
  map.set_stage(v1::MAP_STAGE_BIASED);
  *map.mutable_weights() = *client::MakeTensor({-kInfinity, -2}, {2}, v1::TENSOR_KIND_F32);
  EXPECT_EQ(Show(map, {}, {}).value(),
            "batch 0, head 0, biased, sums over rows 1..3\n"
            "          1       2\n"
            "sum    -inf   -2.00\n");
}

TEST(Maps, RawScoresSpanTheirOwnRange) {
  v1::WeightMap map = FullMap({-kInfinity, -8, -5, -2}, 1, 4);
  map.set_stage(v1::MAP_STAGE_BIASED);
  const auto labelled = Label(map, {});
  EXPECT_EQ(labelled->darkest, -8);
  EXPECT_EQ(labelled->brightest, -2);
  EXPECT_EQ(Show(map, {}, {.color = false, .width = 8}).value(), "batch 0, head 0, biased\n0   +@\n");
}

TEST(Maps, LargeScoresAreRounded) {
  v1::WeightMap map;
  map.set_stage(v1::MAP_STAGE_SCALED);
  *map.mutable_weights() =
      *client::MakeTensor({-123.456F, 12345.678F, -1234567.0F, 1e30F}, {1, 4}, v1::TENSOR_KIND_F32);
  EXPECT_EQ(Show(map, {}, {}).value(),
            "batch 0, head 0, scaled\n"
            "        0       1       2       3\n"
            "0 -123.46   12346  -1e+06   1e+30\n");
}

TEST(Maps, RowSentencesOfWeightsAlone) {
  const Words words = {{"it", "was"}, {"a", "b"}};
  EXPECT_EQ(RowSentences(FullMap({0.25F, 0.75F}, 1, 2), words, {}).value(), "it attends most to b (0.75)\n");
  EXPECT_EQ(RowSentences(TopMap({1, 0}, {0.75F, 0.5F}), words, {}).value(),
            "it attends most to b (0.75)\nwas attends most to a (0.50)\n");
  v1::WeightMap empty = TopMap({}, {});
  empty.mutable_top_keys()->add_counts(0);
  EXPECT_EQ(RowSentences(empty, words, {}).value(), "it attends to nothing\n");
  v1::WeightMap raw = TopMap({1}, {3});
  raw.set_stage(v1::MAP_STAGE_SCALED);
  EXPECT_EQ(RowSentences(raw, words, {}).value(), "");
  EXPECT_EQ(RowSentences(FullMap({1}, 1, 1), words, {.reducer = v1::POOL_REDUCER_MAX}).value(), "");
  v1::WeightMap broken = TopMap({1}, {1});
  broken.mutable_top_keys()->add_counts(7);
  EXPECT_FALSE(RowSentences(broken, words, {}).ok());
}

TEST(Maps, ManyRowsAreCutAndSaySo) {
  const std::string text =
      RowSentences(TopMap(std::vector<std::uint32_t>(70, 3), std::vector<float>(70, 0.5F)), {}, {}).value();
  EXPECT_TRUE(absl::StrContains(text, "\n63 attends most to 3 (0.50)\n(rows 0..63 of 70)\n")) << text;
}

TEST(Maps, TheRequestSaysHowToReadAMap) {
  v1::AttendRequest request;
  request.mutable_outputs()->add_maps()->mutable_full();
  request.mutable_outputs()->add_maps()->mutable_pooled()->set_reducer(v1::POOL_REDUCER_MEAN);
  v1::WeightMap map;
  const auto keys = [&](const v1::AttendRequest& of) { return FormOf(of, map).keys; };
  EXPECT_EQ(FormOf(request, map).reducer, v1::POOL_REDUCER_UNSPECIFIED);
  map.set_request_index(1);
  EXPECT_EQ(FormOf(request, map).reducer, v1::POOL_REDUCER_MEAN);
  EXPECT_EQ(keys(request), 0);
  request.mutable_self_attention()->mutable_seeded_embeddings()->set_tokens(9);
  EXPECT_EQ(keys(request), 9);
  request.mutable_self_attention()->mutable_embeddings()->mutable_shape()->Add(6);
  request.mutable_self_attention()->mutable_embeddings()->mutable_shape()->Add(4);
  EXPECT_EQ(keys(request), 6);
  for (const std::int64_t axis : {2, 8, 4}) request.mutable_self_attention()->mutable_context()->add_shape(axis);
  EXPECT_EQ(keys(request), 8);
  for (const std::int64_t axis : {1, 2, 5, 3}) request.mutable_query_key_value()->mutable_key()->add_shape(axis);
  EXPECT_EQ(keys(request), 5);
  request.mutable_outputs()->mutable_maps(1)->mutable_keys()->set_begin(1);
  request.mutable_outputs()->mutable_maps(1)->mutable_keys()->set_end(4);
  EXPECT_EQ(keys(request), 3);
  map.set_request_index(7);
  EXPECT_EQ(keys(request), 0);
}

TEST(Maps, WordsNameTheKeysOfSelfAttentionAlone) {
  v1::AttendRequest request;
  request.add_tokens("a");
  EXPECT_TRUE(WordsOf(request).keys.empty());
  request.mutable_self_attention()->mutable_embeddings();
  EXPECT_EQ(WordsOf(request).keys, std::vector<std::string>{"a"});
  request.mutable_self_attention()->mutable_context();
  EXPECT_TRUE(WordsOf(request).keys.empty());
  EXPECT_EQ(WordsOf(request).queries, std::vector<std::string>{"a"});
}

}  // namespace
}  // namespace headlight::cli
