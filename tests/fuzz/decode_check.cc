// Bytes of any Attend: decoded, checked and planned, or refused as the contract promises.
#include "server/kernels/matmul.h"
#include "server/plan/planner.h"
#include "server/service/decode.h"
#include "tests/fuzz/fuzz.h"

namespace headlight::fuzz {
namespace {

const LayerStore& Layers() {
  static const auto& layers = *new LayerStore();
  return layers;
}

absl::StatusOr<ProblemSpec> Check(const DecodedCall& call) { return CheckProblem(call.request, Limits()); }

void ExpectSane(const ProblemSpec& spec) {
  const Limits limits;
  const Dimensions& d = spec.dims;
  const auto within = [](std::int64_t size, std::int64_t most) { return size >= 1 && size <= most; };
  Expect(within(d.batch, limits.max_batch) && within(d.query_tokens, limits.max_tokens) &&
             within(d.key_tokens, limits.max_tokens) && within(d.query_heads, limits.max_heads) &&
             within(d.head_size, limits.max_head_size) && within(d.value_head_size, limits.max_head_size),
         "sizes are within their limits");
  Expect(within(d.key_value_heads, d.query_heads) && d.query_heads % d.key_value_heads == 0, "heads divide");
}

void ExpectSane(const ExecutionPlan& plan) {
  Expect(plan.tile.query_rows > 0 && plan.tile.keys > 0, "tiles have rows and keys");
  Expect(plan.flops >= 0 && plan.map_flops >= 0, "work is counted without overflow");
  Expect(plan.WorkspaceTotal(1) >= 0 && plan.response_bytes >= 0 && plan.score_grid_bytes > 0,
         "bytes are counted without overflow");
}

void RunAttend(const v1::AttendRequest& message) {
  const absl::StatusOr<ProblemSpec> spec = Check(Decode(message, Layers()));
  v1::CompareAlgorithmsRequest compare;
  Expect(compare.ParseFromString(message.SerializeAsString()), "a comparison has the fields of an Attend");
  Expect(Check(Decode(compare, Layers())).status() == spec.status(), "a comparison is checked like an Attend");
  if (!spec.ok()) return ExpectRefusal(spec.status());
  ExpectSane(*spec);
  const Processor processor{MultipliesBF16(), GainsFromPacking()};
  ExpectSane(DraftPlan(*spec, processor));
  const absl::StatusOr<ExecutionPlan> plan = MakePlan(*spec, Limits(), processor);
  if (!plan.ok()) ExpectRefusal(plan.status());
  for (const auto& rows : {PlanReference(*spec, Limits()), PlanVerification(*spec, Limits())}) {
    if (!rows.ok()) ExpectRefusal(rows.status());
    if (rows.ok()) Expect(rows->rows >= 0 && rows->rows <= rows->rows_total, "no more rows than there are");
  }
}

}  // namespace

const google::protobuf::Message& Prototype() { return v1::AttendRequest::default_instance(); }

void Run(const google::protobuf::Message& message) { RunAttend(static_cast<const v1::AttendRequest&>(message)); }

}  // namespace headlight::fuzz
