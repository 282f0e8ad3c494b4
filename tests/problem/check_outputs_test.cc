// Malformed outputs and labels: every rule, each with the exact fields that are named.
#include "tests/problem/requests.h"

namespace headlight {
namespace {

using R = ProblemRequest;

MapForm& Map(R& r) { return r.outputs.maps.emplace_back(); }

// B 2, Hq 4, Tq 5, Tk 7.
const Malformed kOutputs[] = {
    {"nothing at all", [](R& r) { r.outputs.omit_output = true; }, {"outputs.omit_output"}},
    {"truths", [](R& r) { r.outputs.kind = TensorKind::kBool; }, {"outputs.tensor_kind"}},
    {"a head beyond the last", [](R& r) { Map(r).heads = {4}; }, {"outputs.maps[0].heads[0]"}},
    {"a head twice",
     [](R& r) {
       Map(r).heads = {1, 2, 1};
     },
     {"outputs.maps[0].heads[2]"}},
    {"a negative head",
     [](R& r) {
       Map(r).heads = {0, -1};
     },
     {"outputs.maps[0].heads[1]"}},
    {"an endless head", [](R& r) { Map(r).heads = {kMostUint32}; }, {"outputs.maps[0].heads[0]"}},
    {"a batch beyond the last",
     [](R& r) {
       Map(r).batches = {0, 2};
     },
     {"outputs.maps[0].batches[1]"}},
    {"a batch twice",
     [](R& r) {
       Map(r).batches = {1, 1};
     },
     {"outputs.maps[0].batches[1]"}},
    {"no rows",
     [](R& r) {
       Map(r).rows = {{2, 2}};
     },
     {"outputs.maps[0].rows[0]"}},
    {"rows backwards",
     [](R& r) {
       Map(r).rows = {{3, 1}};
     },
     {"outputs.maps[0].rows[0]"}},
    {"rows before the first",
     [](R& r) {
       Map(r).rows = {{0, 5}, {-1, 2}};
     },
     {"outputs.maps[0].rows[1]"}},
    {"rows beyond the last",
     [](R& r) {
       Map(r).rows = {{0, 6}};
     },
     {"outputs.maps[0].rows[0]"}},
    {"rows of every number there is",
     [](R& r) {
       Map(r).rows = {{kLeastInt, kMostInt}};
     },
     {"outputs.maps[0].rows[0]"}},
    {"no keys",
     [](R& r) {
       Map(r).keys = Range{0, 0};
     },
     {"outputs.maps[0].keys"}},
    {"keys backwards",
     [](R& r) {
       Map(r).keys = Range{7, 0};
     },
     {"outputs.maps[0].keys"}},
    {"keys before the first",
     [](R& r) {
       Map(r).keys = Range{-1, 3};
     },
     {"outputs.maps[0].keys"}},
    {"keys beyond the last",
     [](R& r) {
       Map(r).keys = Range{6, 8};
     },
     {"outputs.maps[0].keys"}},
    {"the largest of every key there is",
     [](R& r) {
       Map(r).keys = Range{kLeastInt, kMostInt};
       r.outputs.maps[0].top_k = 8;
     },
     {"outputs.maps[0].keys"}},
    {"the largest none", [](R& r) { Map(r).top_k = 0; }, {"outputs.maps[0].top_keys.k"}},
    {"several maps",
     [](R& r) {
       Map(r).heads = {9};
       Map(r);
       Map(r).keys = Range{1, 1};
       r.outputs.maps[2].rows = {{9, 10}};
       r.outputs.kind = TensorKind::kBool;
     },
     {"outputs.tensor_kind", "outputs.maps[0].heads[0]", "outputs.maps[2].rows[0]", "outputs.maps[2].keys"}},
};

TEST(CheckOutputs, RefusesMalformedSelections) { ExpectRefused(HeadMajorRequest(), kOutputs); }

TEST(CheckOutputs, MayOmitTheOutputWhereSomethingElseIsAskedFor) {
  for (int what = 0; what < 3; ++what) {
    ProblemRequest request = HeadMajorRequest();
    request.outputs.omit_output = true;
    if (what == 0) request.outputs.log_sum_exp = true;
    if (what == 1) request.outputs.head_outputs = true;
    if (what == 2) Map(request);
    EXPECT_TRUE(CheckProblem(request, Limits()).ok()) << what;
  }
}

const Malformed kTokens[] = {
    {"a label too few", [](R& r) { r.tokens.pop_back(); }, {"tokens"}},
    {"a label too many", [](R& r) { r.tokens.emplace_back("x"); }, {"tokens"}},
    {"a label too long", [](R& r) { r.tokens[3].assign(129, 'x'); }, {"tokens[3]"}},
    {"a line break", [](R& r) { r.tokens[0] = std::string("a\nb"); }, {"tokens[0]"}},
    {"a null byte", [](R& r) { r.tokens[1] = std::string(1, '\0'); }, {"tokens[1]"}},
    {"a deleted character", [](R& r) { r.tokens[4] = std::string("\x7f"); }, {"tokens[4]"}},
    {"count and labels",
     [](R& r) {
       r.tokens = {std::string("\t"), std::string(500, 'x')};
     },
     {"tokens", "tokens[0]", "tokens[1]"}},
};

TEST(CheckTokens, RefusesMalformedLabels) {
  ProblemRequest request = HeadMajorRequest();
  request.tokens = {"", "caf\xc3\xa9", "\xe4\xbd\xa0\xe5\xa5\xbd", std::string(128, 'x'), "tab less ~"};
  ExpectRefused(request, kTokens);
}

// A label may hold what a caller would not want to see in a log.
TEST(CheckTokens, NeverRepeatsALabel) {
  ProblemRequest request = HeadMajorRequest();
  request.tokens.assign(5, "secret\n");
  const absl::Status status = CheckProblem(request, Limits()).status();
  EXPECT_EQ(DetailsOf(status).violation_count, 5);
  EXPECT_EQ(status.message().find("secret"), std::string::npos) << status;
}

}  // namespace
}  // namespace headlight
