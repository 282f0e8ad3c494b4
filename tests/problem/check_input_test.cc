// Malformed Q, K and V: every rule, each with the exact fields that are named.
#include "tests/problem/requests.h"

namespace headlight {
namespace {

using R = ProblemRequest;

const Malformed kHeadMajor[] = {
    {"no query", [](R& r) { Qkv(r).query.reset(); }, {"query_key_value.query"}},
    {"no key", [](R& r) { Qkv(r).key.reset(); }, {"query_key_value.key"}},
    {"no value", [](R& r) { Qkv(r).value.reset(); }, {"query_key_value.value"}},
    {"nothing at all",
     [](R& r) { r.input = QueryKeyValueForm(); },
     {"query_key_value.query", "query_key_value.key", "query_key_value.value"}},
    {"a scalar query", [](R& r) { Qkv(r).query = FormOf({}); }, {"query_key_value.query.shape"}},
    {"rank 1", [](R& r) { Qkv(r).query = FormOf({8}); }, {"query_key_value.query.shape"}},
    {"rank 5",
     [](R& r) {
       Qkv(r).value = FormOf({1, 2, 2, 7, 6});
     },
     {"query_key_value.value.shape"}},
    {"an empty axis",
     [](R& r) {
       Qkv(r).query = FormOf({2, 4, 0, 8});
     },
     {"query_key_value.query.shape"}},
    {"a negative axis",
     [](R& r) {
       Qkv(r).key = FormOf({2, 2, -7, 8});
     },
     {"query_key_value.key.shape"}},
    {"two negative axes",
     [](R& r) {
       Qkv(r).key = FormOf({2, -2, -7, 8});
     },
     {"query_key_value.key.shape"}},
    {"a byte short", [](R& r) { --*Qkv(r).query->payload_bytes; }, {"query_key_value.query.data"}},
    {"a byte too many", [](R& r) { ++*Qkv(r).key->payload_bytes; }, {"query_key_value.key.data"}},
    {"no bytes", [](R& r) { Qkv(r).value->payload_bytes = 0; }, {"query_key_value.value.data"}},
    {"bytes of another width",
     [](R& r) { Qkv(r).query->payload_bytes = *Qkv(r).query->payload_bytes / 2; },
     {"query_key_value.query.data"}},
    {"truths for numbers",
     [](R& r) {
       Qkv(r).query = FormOf({2, 4, 5, 8}, TensorKind::kBool);
     },
     {"query_key_value.query.data"}},
    {"truths for all three",
     [](R& r) { r.input = HeadMajorRequest(kSmall, TensorKind::kBool).input; },
     {"query_key_value.query.data", "query_key_value.key.data", "query_key_value.value.data"}},
    {"a key of another kind",
     [](R& r) {
       Qkv(r).key = FormOf({2, 2, 7, 8}, TensorKind::kF16);
     },
     {"query_key_value.key.data"}},
    {"three kinds",
     [](R& r) {
       Qkv(r).key = FormOf({2, 2, 7, 8}, TensorKind::kF16);
       Qkv(r).value = FormOf({2, 2, 7, 6}, TensorKind::kBF16);
     },
     {"query_key_value.key.data", "query_key_value.value.data"}},
    {"the key's batch",
     [](R& r) {
       Qkv(r).key = FormOf({3, 2, 7, 8});
     },
     {"query_key_value.key.shape"}},
    {"the key's head size",
     [](R& r) {
       Qkv(r).key = FormOf({2, 2, 7, 9});
     },
     {"query_key_value.key.shape"}},
    {"the value's batch",
     [](R& r) {
       Qkv(r).value = FormOf({1, 2, 7, 6});
     },
     {"query_key_value.value.shape"}},
    {"the value's heads",
     [](R& r) {
       Qkv(r).value = FormOf({2, 4, 7, 6});
     },
     {"query_key_value.value.shape"}},
    {"the value's tokens",
     [](R& r) {
       Qkv(r).value = FormOf({2, 2, 8, 6});
     },
     {"query_key_value.value.shape"}},
    {"key and value",
     [](R& r) {
       Qkv(r).key = FormOf({1, 2, 7, 8});
       Qkv(r).value = FormOf({2, 2, 6, 6});
     },
     {"query_key_value.key.shape", "query_key_value.value.shape"}},
    {"heads that are no multiple",
     [](R& r) {
       Qkv(r).key = FormOf({2, 3, 7, 8});
       Qkv(r).value = FormOf({2, 3, 7, 6});
     },
     {"options.key_value_heads"}},
    {"more key heads than query heads",
     [](R& r) {
       Qkv(r).key = FormOf({2, 8, 7, 8});
       Qkv(r).value = FormOf({2, 8, 7, 6});
     },
     {"options.key_value_heads"}},
    {"another number of query heads", [](R& r) { r.query_heads = 5; }, {"options.query_heads"}},
    {"another number of key heads", [](R& r) { r.key_value_heads = 4; }, {"options.key_value_heads"}},
    {"another head size", [](R& r) { r.head_size = 6; }, {"options.head_size"}},
    {"a key of another rank",
     [](R& r) {
       Qkv(r).key = FormOf({2, 7, 16});
     },
     {"query_key_value.key.shape"}},
    {"a value of another rank",
     [](R& r) {
       Qkv(r).value = FormOf({7, 12});
     },
     {"query_key_value.value.shape"}},
    {"three ranks",
     [](R& r) {
       Qkv(r).key = FormOf({2, 7, 16});
       Qkv(r).value = FormOf({7, 12});
     },
     {"query_key_value.key.shape", "query_key_value.value.shape"}},
    {"each in its own way",
     [](R& r) {
       Qkv(r).query = FormOf({8});
       Qkv(r).key = FormOf({2, 0, 7, 8}, TensorKind::kF16);
       Qkv(r).value.reset();
     },
     {"query_key_value.query.shape", "query_key_value.key.data", "query_key_value.key.shape", "query_key_value.value"}},
};

TEST(CheckInput, RefusesMalformedHeadMajorTensors) { ExpectRefused(HeadMajorRequest(), kHeadMajor); }

const Malformed kTokenMajor[] = {
    {"heads that nothing decides", [](R& r) { r.query_heads = 0; }, {"options.query_heads"}},
    {"heads that do not divide the width", [](R& r) { r.query_heads = 5; }, {"query_key_value.query.shape"}},
    {"heads x size beside the width", [](R& r) { r.head_size = 9; }, {"query_key_value.query.shape"}},
    {"heads x size below the width", [](R& r) { r.head_size = 4; }, {"query_key_value.query.shape"}},
    {"a head wider than the width",
     [](R& r) {
       r.query_heads = 0;
       r.head_size = 64;
     },
     {"query_key_value.query.shape"}},
    {"more heads than channels", [](R& r) { r.query_heads = 33; }, {"query_key_value.query.shape"}},
    {"heads x size that would wrap around",
     [](R& r) {
       r.query_heads = kMostUint32;
       r.head_size = kMostUint32;
     },
     {"query_key_value.query.shape", "options.query_heads", "options.head_size"}},
    {"a key of another width",
     [](R& r) {
       Qkv(r).key = FormOf({2, 7, 17});
     },
     {"query_key_value.key.shape"}},
    {"a key of another batch",
     [](R& r) {
       Qkv(r).key = FormOf({1, 7, 16});
     },
     {"query_key_value.key.shape"}},
    {"a value that the heads do not divide",
     [](R& r) {
       Qkv(r).value = FormOf({2, 7, 13});
     },
     {"query_key_value.value.shape"}},
    {"a value of another batch",
     [](R& r) {
       Qkv(r).value = FormOf({3, 7, 12});
     },
     {"query_key_value.value.shape"}},
    {"a value of other tokens",
     [](R& r) {
       Qkv(r).value = FormOf({2, 6, 12});
     },
     {"query_key_value.value.shape"}},
    {"key heads left out though fewer", [](R& r) { r.key_value_heads = 0; }, {"query_key_value.key.shape"}},
    {"more key heads than query heads",
     [](R& r) {
       r.key_value_heads = 8;
       Qkv(r).key = FormOf({2, 7, 64});
       Qkv(r).value = FormOf({2, 7, 48});
     },
     {"options.key_value_heads"}},
    {"endless key heads",
     [](R& r) { r.key_value_heads = kMostUint32; },
     {"query_key_value.key.shape", "query_key_value.value.shape", "options.key_value_heads"}},
    {"a key without batch",
     [](R& r) {
       Qkv(r).key = FormOf({7, 16});
     },
     {"query_key_value.key.shape"}},
    {"a value with heads",
     [](R& r) {
       Qkv(r).value = FormOf({2, 2, 7, 6});
     },
     {"query_key_value.value.shape"}},
};

TEST(CheckInput, RefusesMalformedTokenMajorTensors) { ExpectRefused(TokenMajorRequest(), kTokenMajor); }

const Malformed kUnbatched[] = {
    {"a key with a batch",
     [](R& r) {
       Qkv(r).key = FormOf({1, 7, 16});
     },
     {"query_key_value.key.shape"}},
    {"heads that nothing decides", [](R& r) { r.query_heads = 0; }, {"options.query_heads"}},
    {"a key of another width",
     [](R& r) {
       Qkv(r).key = FormOf({7, 15});
     },
     {"query_key_value.key.shape"}},
    {"a value of other tokens",
     [](R& r) {
       Qkv(r).value = FormOf({6, 12});
     },
     {"query_key_value.value.shape"}},
};

TEST(CheckInput, RefusesMalformedTensorsWithoutBatch) {
  Dimensions d = kSmall;
  d.batch = 1;
  ExpectRefused(TokenMajorRequest(d, false), kUnbatched);
}

// What can be said of the rest is said where one tensor, or all, cannot be used.
TEST(CheckInput, OneBadTensorHidesNothing) {
  ProblemRequest request = HeadMajorRequest();
  auto& form = std::get<QueryKeyValueForm>(request.input);
  form.query = FormOf({1, 2, 3, 4});
  form.key = FormOf({2, 2, 5, 6});
  form.value = FormOf({1, 1});
  request.query_heads = 200;
  request.head_size = 9;
  EXPECT_EQ(FieldsOf(CheckProblem(request, Limits()).status()),
            (std::vector<std::string>{"query_key_value.value.shape", "options.query_heads", "options.head_size",
                                      "query_key_value.key.shape", "options.query_heads"}));
  ProblemRequest nothing;
  nothing.query_heads = 200;
  nothing.head_size = 1000;
  const std::vector<std::string> fields = FieldsOf(CheckProblem(nothing, Limits()).status());
  EXPECT_NE(std::find(fields.begin(), fields.end(), "options.query_heads"), fields.end());
  EXPECT_NE(std::find(fields.begin(), fields.end(), "options.head_size"), fields.end());
}

TEST(CheckInput, SaysWhatWasSentAndWhatIsAllowed) {
  ProblemRequest request = HeadMajorRequest();
  Qkv(request).key = FormOf({2, 2, 7, 9});
  Qkv(request).value->payload_bytes = 7;
  const ErrorDetails details = DetailsOf(CheckProblem(request, Limits()).status());
  ASSERT_EQ(details.violations.size(), 2U);
  EXPECT_EQ(details.violations[0].got, "7 bytes");
  EXPECT_EQ(details.violations[0].expected, "672 bytes for [2, 2, 7, 6] of f32");
  EXPECT_EQ(details.violations[1].got, "[2, 2, 7, 9]");
  EXPECT_EQ(details.violations[1].expected, "[2, Hkv, Tk, 8]");
}

}  // namespace
}  // namespace headlight
