// What could never fit is refused before anything is allocated, at the limit exactly.
#include "absl/strings/str_cat.h"
#include "tests/plan/plans.h"

namespace headlight {
namespace {

absl::Status StatusOf(const ProblemRequest& request, const Limits& limits = Limits()) {
  return MakePlan(Checked(request), limits, {}).status();
}

void ExpectTooExpensive(const absl::Status& status, const std::vector<std::string>& fields) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kRequestTooExpensive);
  EXPECT_EQ(FieldsOf(status), fields);
}

TEST(MakePlan, RefusesMoreFlopsThanTheLimit) {
  const ProblemRequest requests[] = {HeadMajorRequest(), LayerRequest()};
  const std::string fields[] = {"query_key_value", "self_attention"};
  for (int i = 0; i < 2; ++i) {
    Limits limits;
    limits.max_flops = PlanOf(requests[i]).flops;
    EXPECT_TRUE(StatusOf(requests[i], limits).ok());
    --limits.max_flops;
    const absl::Status status = StatusOf(requests[i], limits);
    ExpectTooExpensive(status, {fields[i]});
    const Violation violation = DetailsOf(status).violations[0];
    EXPECT_EQ(violation.got, absl::StrCat(limits.max_flops + 1, " FLOPs"));
    EXPECT_EQ(violation.expected, absl::StrCat("at most ", limits.max_flops, " FLOPs a call"));
  }
}

TEST(MakePlan, RefusesMoreWorkspaceThanTheLimit) {
  const ProblemRequest request = LayerRequest();
  Limits limits;
  limits.max_workspace_bytes = PlanOf(request).WorkspaceTotal(1);
  EXPECT_TRUE(StatusOf(request, limits).ok());
  --limits.max_workspace_bytes;
  ExpectTooExpensive(StatusOf(request, limits), {"self_attention"});
}

TEST(MakePlan, BlamesTheAlgorithmWhereTheGridIsWhatDoesNotFit) {
  ProblemRequest request = HeadMajorRequest({1, 8, 8, 16384, 16384, 8, 8});  // a grid of 8 GiB
  request.algorithm = Algorithm::kNaive;
  const absl::Status status = StatusOf(request);
  ExpectTooExpensive(status, {"options.algorithm"});
  EXPECT_NE(status.message().find("flash needs no grid"), absl::string_view::npos);
  request.algorithm = Algorithm::kFlash;
  EXPECT_TRUE(StatusOf(request).ok());
  request.algorithm.reset();
  EXPECT_TRUE(StatusOf(request).ok());
}

TEST(MakePlan, ReportsFlopsAndWorkspaceAtOnce) {
  Limits limits;
  limits.max_flops = 1;
  limits.max_workspace_bytes = 1;
  ProblemRequest request = LayerRequest();
  request.algorithm = Algorithm::kFlash;
  ExpectTooExpensive(StatusOf(request, limits), {"self_attention", "self_attention"});
  EXPECT_EQ(DetailsOf(StatusOf(request, limits)).violation_count, 2);
}

// The largest problem that passes the check: its numbers must come out as they are, not wrapped around.
TEST(MakePlan, CountsTheLargestProblemWithoutOverflow) {
  Limits limits;
  limits.max_flops = limits.max_workspace_bytes = kMostInt;
  limits.max_tensor_elements = std::int64_t{1} << 40;
  ProblemRequest request = HeadMajorRequest({64, 128, 128, 16384, 16384, 512, 512});
  request.algorithm = Algorithm::kNaive;
  request.outputs.maps.resize(8);
  request.outputs.head_outputs = true;
  for (MapForm& map : request.outputs.maps) map.rows.assign(64, Range{0, 16384});
  const ProblemSpec spec = CheckProblem(request, limits).value();
  const absl::StatusOr<ExecutionPlan> plan = MakePlan(spec, limits, {});
  EXPECT_EQ(DetailsOf(plan.status()).reason, ErrorReason::kResponseTooLarge);
  const std::int64_t maps = std::int64_t{64} * 128 * 8 * 64 * (std::int64_t{16384} * 16384 * 4 + 64);
  EXPECT_EQ(DetailsOf(plan.status()).metadata.at("response_bytes"),
            absl::StrCat(maps + std::int64_t{64} * 128 * 16384 * 512 * 4 * 2 + 512));
  Limits usual;
  EXPECT_EQ(DetailsOf(MakePlan(spec, usual, {}).status()).violations[0].got,
            absl::StrCat(2 * std::int64_t{64} * 16384 * 16384 * 128 * 1024, " FLOPs"));
}

// Many ranges of pooled maps: small answers that take the square once more each.
TEST(MakePlan, RefusesMapsThatTakeTooMuch) {
  ProblemRequest request = HeadMajorRequest({1, 8, 8, 16384, 16384, 64, 64});
  request.outputs.maps.resize(8);
  for (MapForm& map : request.outputs.maps) {
    map.rows.assign(64, Range{0, 16384});
    map.pooled = PooledForm{1, 1, PoolReducer::kMax};
  }
  const ErrorDetails details = DetailsOf(StatusOf(request));
  EXPECT_EQ(details.reason, ErrorReason::kRequestTooExpensive);
  ASSERT_EQ(details.violations.size(), 1U);
  EXPECT_EQ(details.violations[0].field, "outputs.maps");
  for (MapForm& map : request.outputs.maps) map.rows.resize(1);
  EXPECT_TRUE(StatusOf(request).ok());
}

TEST(MakePlan, RefusesAnAnswerBeyondItsLimit) {
  ProblemRequest request = HeadMajorRequest();
  request.outputs.maps.resize(1);
  const std::int64_t bytes = PlanOf(request).response_bytes;
  request.outputs.max_response_bytes = static_cast<std::uint64_t>(bytes);
  EXPECT_TRUE(StatusOf(request).ok());
  --request.outputs.max_response_bytes;
  const absl::Status status = StatusOf(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const ErrorDetails details = DetailsOf(status);
  EXPECT_EQ(details.reason, ErrorReason::kResponseTooLarge);
  EXPECT_EQ(details.metadata.at("limit_bytes"), absl::StrCat(bytes - 1));
  EXPECT_EQ(details.metadata.at("response_bytes"), absl::StrCat(bytes));
  EXPECT_EQ(FieldsOf(status), std::vector<std::string>{"outputs"});
  EXPECT_EQ(details.violation_count, 1);
  EXPECT_NE(status.message().find(absl::StrCat(bytes)), absl::string_view::npos);
}

TEST(MakePlan, HoldsAnswersToTheServersOwnLimit) {
  ProblemRequest request = HeadMajorRequest({4, 32, 1, 4096, 4096, 1, 1});
  EXPECT_TRUE(StatusOf(request).ok());
  request.outputs.maps.resize(1);  // 8 GiB of weights
  EXPECT_EQ(DetailsOf(StatusOf(request)).reason, ErrorReason::kResponseTooLarge);
  request.outputs.max_response_bytes = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(DetailsOf(StatusOf(request)).reason, ErrorReason::kResponseTooLarge);
  EXPECT_EQ(DetailsOf(StatusOf(request)).metadata.at("limit_bytes"), absl::StrCat(Limits().max_response_bytes));
}

TEST(MakePlan, SaysTooExpensiveBeforeTooLarge) {
  ProblemRequest request = HeadMajorRequest();
  request.outputs.max_response_bytes = 1;
  Limits limits;
  limits.max_flops = 1;
  ExpectTooExpensive(StatusOf(request, limits), {"query_key_value"});
}

}  // namespace
}  // namespace headlight
