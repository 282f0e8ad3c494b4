// What comes before what, and that everything which is wrong is said at once.
#include "tests/problem/requests.h"

namespace headlight {
namespace {

ProblemRequest UnknownLayerRequest() {
  ProblemRequest request = NamedRequest();
  Self(request).layer_name = std::string("no-such-layer");
  Self(request).layer.reset();
  return request;
}

TEST(CheckProblem, ReportsEveryRoomsViolationsAtOnce) {
  ProblemRequest request = HeadMajorRequest();
  request.violations.Add("options.algorithm", "number 9", "UNSPECIFIED, NAIVE or FLASH");
  Qkv(request).key = FormOf({2, 2, 7, 9});
  request.position.query_offset = std::int64_t{1} << 40;
  request.mask.key_lengths = {7, 9};
  request.scale = kNan;
  request.outputs.kind = TensorKind::kBool;
  request.tokens = {"one"};
  const absl::Status status = CheckProblem(request, Limits()).status();
  EXPECT_EQ(FieldsOf(status), (std::vector<std::string>{"options.algorithm", "query_key_value.key.shape",
                                                        "options.position.query_offset", "options.mask.key_lengths[1]",
                                                        "options.scale", "outputs.tensor_kind", "tokens"}));
  EXPECT_EQ(DetailsOf(status).violation_count, 7);
}

TEST(CheckProblem, CarriesTheFirstEightAndCountsAll) {
  ProblemRequest request = HeadMajorRequest();
  request.scale = kInfinity;
  request.tokens.assign(1000, "\n");
  const ErrorDetails details = DetailsOf(CheckProblem(request, Limits()).status());
  EXPECT_EQ(details.violation_count, 1002);  // the scale, the number of labels, and each of them
  ASSERT_EQ(details.violations.size(), 8U);
  EXPECT_EQ(details.violations[0].field, "options.scale");
  EXPECT_EQ(details.violations[1].field, "tokens");
  EXPECT_EQ(details.violations[7].field, "tokens[5]");
}

TEST(CheckProblem, ReportsNoConsequencesOfAMissingInput) {
  ProblemRequest request;
  request.violations.Add("input", "nothing", "self_attention or query_key_value");
  request.query_heads = 3;
  request.position.kind = PositionKind::kRotary;
  request.position.rotary_size = 8;
  request.mask.causal = CausalForm{CausalAlignment::kBottomRight, {}};
  request.mask.tensor = FormOf({4, 5, 6, 7}, TensorKind::kBF16);
  request.mask.key_lengths = {9, 9, 9};
  request.outputs.maps.resize(1);
  request.outputs.maps[0] = {{100}, {63}, {{5, 6000}}, Range{0, 10000}, 8};
  request.tokens = {"a", "b"};
  EXPECT_EQ(FieldsOf(CheckProblem(request, Limits()).status()), std::vector<std::string>{"input"});
  request.position.kind = PositionKind::kLearned;
  request.position.table = FormOf({9, 16}, TensorKind::kF16);
  EXPECT_EQ(FieldsOf(CheckProblem(request, Limits()).status()), std::vector<std::string>{"input"});
}

TEST(CheckProblem, ReportsNoConsequencesOfABrokenTensor) {
  ProblemRequest request = HeadMajorRequest();
  Qkv(request).query = FormOf({7});
  request.position.kind = PositionKind::kAlibi;
  request.position.slopes = {1, 2, 3, 4, 5};
  request.mask.tensor = FormOf({9, 9});
  request.mask.key_lengths = {1, 2, 3};
  request.tokens = {"a"};
  EXPECT_EQ(FieldsOf(CheckProblem(request, Limits()).status()),
            std::vector<std::string>{"query_key_value.query.shape"});
}

TEST(CheckProblem, KnowsNoSuchLayerWhereNothingElseIsWrong) {
  ProblemRequest request = UnknownLayerRequest();
  const absl::Status status = CheckProblem(request, Limits()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kLayerNotFound);
  EXPECT_EQ(DetailsOf(status).metadata.at("layer"), "no-such-layer");
  EXPECT_EQ(DetailsOf(status).violation_count, 0);
}

TEST(CheckProblem, ReportsViolationsRatherThanAnUnknownLayer) {
  const std::pair<void (*)(ProblemRequest&), std::string> spoilers[] = {
      {[](ProblemRequest& r) { Self(r).embeddings = FormOf({16}); }, "self_attention.embeddings.shape"},
      {[](ProblemRequest& r) { r.scale = kNan; }, "options.scale"},
      {[](ProblemRequest& r) { r.query_heads = 129; }, "options.query_heads"},
      {[](ProblemRequest& r) {
         r.mask.tensor = FormOf({3, 2}, TensorKind::kBool);
       },
       "options.mask.tensor.shape"},
      {[](ProblemRequest& r) { r.outputs.omit_output = true; }, "outputs.omit_output"},
      {[](ProblemRequest& r) { r.tokens = {"one"}; }, "tokens"},
      {[](ProblemRequest& r) { r.violations.Add("priority", "number 9", "x"); }, "priority"}};
  for (const auto& [spoil, field] : spoilers) {
    ProblemRequest request = UnknownLayerRequest();
    spoil(request);
    const absl::Status status = CheckProblem(request, Limits()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_EQ(FieldsOf(status), std::vector<std::string>{field});
  }
}

// What cannot be known without the layer's heads is nobody's violation.
TEST(CheckProblem, KnowsNoSuchLayerWhateverDependsOnItsHeads) {
  ProblemRequest request = UnknownLayerRequest();
  request.query_heads = 77;
  request.head_size = 3;
  request.position.kind = PositionKind::kRotary;
  request.mask.tensor = FormOf({2, 9, 5, 5});
  request.outputs.maps.resize(1);
  request.outputs.maps[0].heads = {50};
  EXPECT_EQ(CheckProblem(request, Limits()).status().code(), absl::StatusCode::kNotFound);
  request.position.kind = PositionKind::kAlibi;
  request.position.slopes = {1, 2};
  EXPECT_EQ(CheckProblem(request, Limits()).status().code(), absl::StatusCode::kNotFound);
}

TEST(CheckProblem, CleansTheNameOfAnUnknownLayer) {
  ProblemRequest request = UnknownLayerRequest();
  Self(request).layer_name = std::string("a\nb\x1e");
  EXPECT_EQ(DetailsOf(CheckProblem(request, Limits()).status()).metadata.at("layer"), "a?b?");
}

TEST(CheckProblem, IsInvalidWhereALimitAndARuleAreBroken) {
  Dimensions d = kSmall;
  d.batch = 65;
  ProblemRequest request = HeadMajorRequest(d);
  EXPECT_EQ(DetailsOf(CheckProblem(request, Limits()).status()).reason, ErrorReason::kRequestTooExpensive);
  request.scale = kNan;
  const ErrorDetails details = DetailsOf(CheckProblem(request, Limits()).status());
  EXPECT_EQ(details.reason, ErrorReason::kInvalidRequest);
  EXPECT_EQ(details.violation_count, 2);
}

TEST(CheckProblem, SaysTheSameOfTheSameRequest) {
  ProblemRequest request = HeadMajorRequest();
  Qkv(request).value = FormOf({1, 2, 3, 4});
  EXPECT_EQ(CheckProblem(request, Limits()).status(), CheckProblem(request, Limits()).status());
}

}  // namespace
}  // namespace headlight
