// The corridor of a call: decode, check, plan, admit, compute, encode. pipeline.cc is the only file that knows the
// order.
#ifndef HEADLIGHT_SERVER_SERVICE_PIPELINE_H_
#define HEADLIGHT_SERVER_SERVICE_PIPELINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "headlight/v1/attention_service.pb.h"
#include "server/admission/admission.h"
#include "server/admission/compute_pool.h"
#include "server/admission/ticket.h"
#include "server/analysis/maps.h"
#include "server/analysis/statistics.h"
#include "server/engine/attention.h"
#include "server/engine/compare.h"
#include "server/engine/sequence.h"
#include "server/kernels/matmul.h"
#include "server/layers/store.h"
#include "server/plan/planner.h"
#include "server/service/decode.h"
#include "server/telemetry/call_log.h"
#include "server/telemetry/metrics.h"

namespace headlight {

// What all calls share; outlives them.
struct Shared {
  const Limits& limits;
  ComputePool& pool;
  MatmulCache& matmuls;
  MemoryLedger& memory;
  Metrics& metrics;
  CallLog& call_log;
  Admission& admission;
  LayerStore& layers;
  // Calls that compute, from their arrival to the moment when gRPC is done with them.
  std::atomic<std::int64_t>& open_calls;
};

// What admission asks of a call beside its cost.
struct CallTerms {
  std::int64_t request_bytes = 0;
  v1::Priority priority = v1::PRIORITY_UNSPECIFIED;
  absl::Time deadline = absl::InfiniteFuture();
  absl::Time began = absl::Now();  // when decoding did
};

// Floating-point operations of a call of this cost that workers have done, by the time they spent.
double FlopsDone(const Shared& shared, const CallCost& cost, const CallControl& control);

// Limits of AttendStream: as of the unary calls, but for tokens and the answer.
Limits StreamLimits(Limits limits);

// One Attend. Accept and Compute on the thread that brought the request, Encode on the worker that calls `done`.
// Request and response outlive it.
class AttendCall {
 public:
  using Request = v1::AttendRequest;
  using Response = v1::AttendResponse;

  explicit AttendCall(Shared& shared) : shared_(shared) {}

  // Decode, check, plan, admit. Errors: those of CheckProblem, MakePlan and Admission::Admit.
  absl::Status Accept(const Request& request, absl::Time deadline);
  // Likewise of a call that another protocol decoded; what it borrows from outlives this.
  absl::Status Accept(const DecodedCall& decoded, const CallTerms& terms);
  // REQUIRES: Accept returned OK.
  void Compute(ComputePool::Done done);
  // REQUIRES: `done` was called with OK. Records what was computed.
  void Encode(Response* response);
  const CallCost& cost() const { return cost_; }

  const std::shared_ptr<CallControl>& control() const { return ticket_->control(); }
  Stage stage() const { return work_->stage(); }
  // About how much of it was computed.
  double flops_done() const { return FlopsDone(shared_, cost_, *control()); }
  // What is known of it now: shape, algorithm, times of stages. Not while it computes.
  void Describe(CallRecord* record) const;

 protected:
  // Check, plan, admit: all that needs no data.
  absl::Status Admit(const DecodedCall& decoded, const CallTerms& terms, const Limits& limits);
  // The work's parts, from what plan_, ticket_ and data_ hold. `accepted` is when waiting began; `watch`: or null.
  void MakeWork(absl::Time accepted, const Watch* watch);
  // Encode's parts: what ran, and what is learned of it. `began`: encoding.
  void EncodeRun(v1::Execution* message) const;
  void Record(std::int64_t weight_map_bytes, absl::Time began);

  Shared& shared_;
  CallCost cost_;
  double decode_seconds_ = 0, encode_seconds_ = 0;
  std::optional<ExecutionPlan> plan_;
  std::optional<Ticket> ticket_;
  std::vector<std::unique_ptr<MapSink>> sinks_;
  std::optional<StatisticsSink> statistics_;
  std::shared_ptr<const Layer> layer_;  // that data_ points into
  AttentionData data_;
  std::unique_ptr<AttentionWork> attention_;
  ReferencePlan verified_rows_;
  std::unique_ptr<VerificationWork> verification_;
  std::unique_ptr<Sequence> work_;
};

// The corridor stopped before the ticket: what a call would compute and take, within the limits of Attend, or of
// AttendStream where the request says so. Errors: those of CheckProblem.
absl::Status PlanCall(const Shared& shared, const v1::PlanAttentionRequest& request,
                      v1::PlanAttentionResponse* response);

// One CompareAlgorithms; as AttendCall.
class CompareCall {
 public:
  using Request = v1::CompareAlgorithmsRequest;
  using Response = v1::CompareAlgorithmsResponse;

  explicit CompareCall(Shared& shared) : shared_(shared) {}

  absl::Status Accept(const Request& request, absl::Time deadline);
  void Compute(ComputePool::Done done);
  void Encode(Response* response);

  const std::shared_ptr<CallControl>& control() const { return ticket_->control(); }
  Stage stage() const { return work_->stage(); }
  double flops_done() const { return FlopsDone(shared_, cost_, *control()); }
  void Describe(CallRecord* record) const;

 private:
  Shared& shared_;
  CallCost cost_;
  std::optional<ExecutionPlan> naive_, flash_;
  ReferencePlan reference_;
  std::optional<Ticket> ticket_;
  std::shared_ptr<const Layer> layer_;  // that data_ points into
  AttentionData data_;
  std::unique_ptr<CompareWork> work_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_PIPELINE_H_
