#include "server/service/pipeline.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/time/clock.h"
#include "server/service/costs.h"
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

// What can be planned though it could not be computed: larger sizes, whose products still fit 64 bits.
Limits PlanningLimits(Limits limits) {
  limits.max_batch = std::max<std::int64_t>(limits.max_batch, 128);
  limits.max_heads = std::max<std::int64_t>(limits.max_heads, 256);
  limits.max_tokens = std::max<std::int64_t>(limits.max_tokens, 262'144);
  limits.max_tensor_elements = std::int64_t{1} << 44;
  limits.max_verify_rows = std::numeric_limits<std::uint32_t>::max();
  return limits;
}

}  // namespace

Limits StreamLimits(Limits limits) {
  limits.max_tokens = limits.max_stream_tokens;
  limits.max_response_bytes = limits.max_stream_response_bytes;
  return limits;
}

absl::Status AttendCall::Accept(const Request& request, absl::Time deadline) {
  const CallTerms terms{static_cast<std::int64_t>(request.ByteSizeLong()), request.priority(), deadline};
  return Accept(Decode(request, shared_.layers), terms);
}

absl::Status AttendCall::Accept(const DecodedCall& decoded, const CallTerms& terms) {
  if (absl::Status admitted = Admit(decoded, terms, shared_.limits); !admitted.ok()) return admitted;
  MakeWork(ticket_->accepted(), nullptr);
  return absl::OkStatus();
}

absl::Status AttendCall::Admit(const DecodedCall& decoded, const CallTerms& terms, const Limits& limits) {
  layer_ = decoded.layer;
  absl::StatusOr<ProblemSpec> spec = CheckProblem(decoded.request, limits);
  if (!spec.ok()) return spec.status();
  absl::StatusOr<ExecutionPlan> plan = MakePlan(*std::move(spec), limits, ThisProcessor());
  if (!plan.ok()) return plan.status();
  plan_ = *std::move(plan);
  data_ = decoded.data;
  if (plan_->spec.outputs.verify_rows > 0) {
    const absl::StatusOr<ReferencePlan> rows = PlanVerification(plan_->spec, limits);
    if (!rows.ok()) return rows.status();
    verified_rows_ = *rows;
  }
  cost_ = CostOf(*plan_, terms.request_bytes, shared_.pool.workers());
  cost_.reference_flops = verified_rows_.flops;
  absl::StatusOr<Ticket> ticket = shared_.admission.Admit(cost_, PriorityOf(terms.priority), terms.deadline);
  if (!ticket.ok()) return ticket.status();
  ticket_ = *std::move(ticket);
  decode_seconds_ = absl::ToDoubleSeconds(absl::Now() - terms.began);
  return absl::OkStatus();
}

void AttendCall::MakeWork(absl::Time accepted, const Watch* watch) {
  const OutputSpec& outputs = plan_->spec.outputs;
  sinks_ = MakeMapSinks(plan_->spec);
  std::vector<ScoreSink*> sinks;
  for (const auto& sink : sinks_) sinks.push_back(sink.get());
  if (outputs.head_statistics) sinks.push_back(&statistics_.emplace(plan_->spec));
  MemoryAccount& account = ticket_->account();
  attention_ =
      std::make_unique<AttentionWork>(*plan_, data_, account, shared_.matmuls, std::move(sinks), accepted, watch);
  std::vector<PhasedWork*> order{attention_.get()};
  if (outputs.verify_rows > 0) {
    verification_ = std::make_unique<VerificationWork>(*attention_, *plan_, verified_rows_, data_, account);
    for (PhasedWork* work : verification_->order()) order.push_back(work);
  }
  work_ = std::make_unique<Sequence>(std::move(order));
}

void AttendCall::Compute(ComputePool::Done done) { shared_.pool.Run(control(), work_.get(), std::move(done)); }

void AttendCall::Encode(Response* response) {
  const absl::Time began = absl::Now();
  EncodeAttend(*attention_, sinks_, response);
  if (statistics_.has_value()) EncodeStatistics(statistics_->results(), response->mutable_head_statistics());
  EncodeRun(response->mutable_execution());
  Record(MapBytes(*response), began);
}

void AttendCall::EncodeRun(v1::Execution* message) const {
  EncodeExecution(*plan_, attention_->Record(), message);
  if (verification_ == nullptr) return;
  EncodeVerification(verified_rows_.rows, verification_->difference(), message->mutable_verification());
}

void AttendCall::Record(std::int64_t weight_map_bytes, absl::Time began) {
  AttendRecord record = RecordOf(*plan_, attention_->Record());
  record.weight_map_bytes = weight_map_bytes;
  record.seconds[Stage::kDecode] = decode_seconds_;
  encode_seconds_ = absl::ToDoubleSeconds(absl::Now() - began);
  record.seconds[Stage::kEncode] = encode_seconds_;
  shared_.metrics.Attended(record);
  shared_.metrics.Estimated(record.algorithm, ticket_->Learn());
}

void AttendCall::Describe(CallRecord* record) const {
  if (!plan_.has_value()) return;
  record->shape = ShapeOf(*plan_);
  record->algorithm = plan_->algorithm == Algorithm::kNaive ? "naive" : "flash";
  if (attention_ != nullptr) record->stage_seconds = attention_->Record().times;
  record->stage_seconds[Stage::kDecode] = decode_seconds_;
  record->stage_seconds[Stage::kEncode] = encode_seconds_;
}

absl::Status PlanCall(const Shared& shared, const v1::PlanAttentionRequest& request,
                      v1::PlanAttentionResponse* response) {
  const Limits limits = request.streamed() ? StreamLimits(shared.limits) : shared.limits;
  const ProblemRequest decoded = Decode(request, shared.layers).request;
  const absl::Status within = CheckProblem(decoded, limits).status();
  absl::StatusOr<ProblemSpec> spec = CheckProblem(decoded, PlanningLimits(limits));
  std::vector<Violation> exceeded = DetailsOf(within).violations;
  if (!spec.ok() && DetailsOf(within).reason == ErrorReason::kRequestTooExpensive) {
    EncodeExceeded(exceeded, response);
    return absl::OkStatus();
  }
  if (!spec.ok()) return within;
  const ExecutionPlan plan = DraftPlan(*spec, ThisProcessor());
  spec->algorithm = Algorithm::kNaive;
  const ExecutionPlan naive = DraftPlan(*spec, ThisProcessor());
  spec->algorithm = Algorithm::kFlash;
  const ExecutionPlan flash = DraftPlan(*spec, ThisProcessor());
  for (Violation& violation : ExceededLimits(plan, limits)) exceeded.push_back(std::move(violation));
  std::int64_t verified_flops = 0;
  if (spec->outputs.verify_rows > 0) {
    const auto rows = PlanVerification(*spec, limits);
    if (rows.ok()) verified_flops = rows->flops;
    if (!rows.ok()) exceeded.push_back(DetailsOf(rows.status()).violations.front());
  }
  CallCost cost = CostOf(plan, 0, shared.pool.workers());
  cost.reference_flops = verified_flops;
  const Quote quote = shared.admission.Predict(cost, PriorityOf(request.priority()));
  EncodePlan({plan, naive, flash, std::move(exceeded), quote}, shared.pool.workers(), response);
  return absl::OkStatus();
}

absl::Status CompareCall::Accept(const Request& request, absl::Time deadline) {
  const DecodedCall decoded = Decode(request, shared_.layers);
  layer_ = decoded.layer;
  absl::StatusOr<ProblemSpec> spec = CheckProblem(decoded.request, shared_.limits);
  if (!spec.ok()) return spec.status();
  spec->outputs = OutputSpec();
  spec->outputs.max_response_bytes = shared_.limits.max_response_bytes;
  const absl::StatusOr<ReferencePlan> reference = PlanReference(*spec, shared_.limits);
  if (!reference.ok()) return reference.status();
  reference_ = *reference;
  for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
    spec->algorithm = algorithm;
    absl::StatusOr<ExecutionPlan> plan = MakePlan(*spec, shared_.limits, ThisProcessor());
    if (!plan.ok()) return plan.status();
    (algorithm == Algorithm::kNaive ? naive_ : flash_) = *std::move(plan);
  }
  data_ = decoded.data;
  cost_ = CostOf(*naive_, static_cast<std::int64_t>(request.ByteSizeLong()), shared_.pool.workers());
  cost_.flops += flash_->flops;
  cost_.reference_flops = reference_.flops;
  // The outputs of both, and the reference's rows.
  cost_.bytes += 4 * ElementCount(naive_->spec.OutputShape()).value_or(0) * static_cast<std::int64_t>(sizeof(float));
  absl::StatusOr<Ticket> ticket = shared_.admission.Admit(cost_, PriorityOf(request.priority()), deadline);
  if (!ticket.ok()) return ticket.status();
  ticket_ = *std::move(ticket);
  work_ = std::make_unique<CompareWork>(*naive_, *flash_, reference_, data_, shared_.matmuls, &shared_.memory);
  return absl::OkStatus();
}

void CompareCall::Compute(ComputePool::Done done) { shared_.pool.Run(control(), work_.get(), std::move(done)); }

void CompareCall::Encode(Response* response) {
  EncodeCompare(*naive_, *flash_, *work_, response);
  shared_.metrics.Attended(RecordOf(*naive_, work_->naive()));
  shared_.metrics.Attended(RecordOf(*flash_, work_->flash()));
  shared_.metrics.Estimated(AlgorithmLabel::kNaive, ticket_->Learn());
}

void CompareCall::Describe(CallRecord* record) const {
  if (!flash_.has_value()) return;
  record->shape = ShapeOf(*flash_);
  record->algorithm = "both";
}

}  // namespace headlight
