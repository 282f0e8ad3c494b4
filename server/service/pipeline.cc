#include "server/service/pipeline.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "server/service/decode.h"
#include "server/service/encode.h"

namespace headlight {
namespace {

AttendRecord RecordOf(const ExecutionPlan& plan, const ExecutionRecord& record) {
  const Dimensions& d = plan.spec.dims;
  AttendRecord out;
  out.algorithm = plan.algorithm == Algorithm::kNaive ? AlgorithmLabel::kNaive : AlgorithmLabel::kFlash;
  out.seconds = record.times;
  out.flops = plan.flops;
  out.query_tokens = d.batch * d.query_tokens;
  out.key_tokens = d.batch * d.key_tokens;
  out.sequence_length = std::max(d.query_tokens, d.key_tokens);
  if (plan.algorithm == Algorithm::kFlash) out.score_grid_saved_bytes = plan.score_grid_bytes;
  return out;
}

std::int64_t MapBytes(const v1::AttendResponse& response) {
  std::int64_t bytes = 0;
  for (const v1::WeightMap& map : response.maps()) bytes += static_cast<std::int64_t>(map.ByteSizeLong());
  return bytes;
}

}  // namespace

absl::Status AttendCall::Accept(const Request& request, absl::Time deadline) {
  const absl::Time began = absl::Now();
  const DecodedCall decoded = Decode(request);
  absl::StatusOr<ProblemSpec> spec = CheckProblem(decoded.request, shared_.limits);
  if (!spec.ok()) return spec.status();
  absl::StatusOr<ExecutionPlan> plan = MakePlan(*std::move(spec), shared_.limits);
  if (!plan.ok()) return plan.status();
  plan_ = *std::move(plan);
  data_ = decoded.data;
  ticket_.emplace(shared_.calls, &shared_.memory, deadline);
  sinks_ = MakeMapSinks(plan_->spec);
  std::vector<ScoreSink*> sinks;
  for (const auto& sink : sinks_) sinks.push_back(sink.get());
  work_ = std::make_unique<AttentionWork>(*plan_, data_, ticket_->account(), shared_.matmuls, std::move(sinks),
                                          ticket_->accepted());
  decode_seconds_ = absl::ToDoubleSeconds(absl::Now() - began);
  return absl::OkStatus();
}

void AttendCall::Compute(ComputePool::Done done) { shared_.pool.Run(control(), work_.get(), std::move(done)); }

void AttendCall::Encode(Response* response) {
  const absl::Time began = absl::Now();
  EncodeAttend(*plan_, *work_, sinks_, response);
  AttendRecord record = RecordOf(*plan_, work_->Record());
  record.weight_map_bytes = MapBytes(*response);
  record.seconds[Stage::kDecode] = decode_seconds_;
  record.seconds[Stage::kEncode] = absl::ToDoubleSeconds(absl::Now() - began);
  shared_.metrics.Attended(record);
}

absl::Status CompareCall::Accept(const Request& request, absl::Time deadline) {
  const DecodedCall decoded = Decode(request);
  absl::StatusOr<ProblemSpec> spec = CheckProblem(decoded.request, shared_.limits);
  if (!spec.ok()) return spec.status();
  spec->outputs = OutputSpec();
  spec->outputs.max_response_bytes = shared_.limits.max_response_bytes;
  const absl::StatusOr<ReferencePlan> reference = PlanReference(*spec, shared_.limits);
  if (!reference.ok()) return reference.status();
  reference_ = *reference;
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    spec->algorithm = algorithm;
    absl::StatusOr<ExecutionPlan> plan = MakePlan(*spec, shared_.limits);
    if (!plan.ok()) return plan.status();
    (algorithm == Algorithm::kNaive ? naive_ : flash_) = *std::move(plan);
  }
  data_ = decoded.data;
  ticket_.emplace(shared_.calls, &shared_.memory, deadline);
  work_ = std::make_unique<CompareWork>(*naive_, *flash_, reference_, data_, shared_.matmuls, &shared_.memory);
  return absl::OkStatus();
}

void CompareCall::Compute(ComputePool::Done done) { shared_.pool.Run(control(), work_.get(), std::move(done)); }

void CompareCall::Encode(Response* response) {
  EncodeCompare(*naive_, *flash_, *work_, response);
  shared_.metrics.Attended(RecordOf(*naive_, work_->naive()));
  shared_.metrics.Attended(RecordOf(*flash_, work_->flash()));
}

}  // namespace headlight
