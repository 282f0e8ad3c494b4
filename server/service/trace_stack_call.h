// One TraceStack: a stack over a text, as one work under one ticket.
#ifndef HEADLIGHT_SERVER_SERVICE_TRACE_STACK_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_TRACE_STACK_CALL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "headlight/v1/analysis_service.pb.h"
#include "server/analysis/trace.h"
#include "server/service/admitted_call.h"

namespace headlight {

// As AttendCall.
class TraceStackCall : public AdmittedCall {
 public:
  using Request = v1::TraceStackRequest;
  using Response = v1::TraceStackResponse;

  explicit TraceStackCall(Shared& shared) : AdmittedCall(shared) {}

  // Errors: INVALID_ARGUMENT (every violation at once, or PlanStack's), NOT_FOUND (an unknown stack, where nothing else
  // is wrong), those of Admission::Admit.
  absl::Status Accept(const Request& request, absl::Time deadline);
  void Compute(ComputePool::Done done);
  void Encode(Response* response);

 private:
  const std::string* WordOf(std::int64_t id) const;
  void EncodeBet(const WordBet& bet, v1::Bet* message) const;

  const absl::Time began_ = absl::Now();
  std::shared_ptr<const Stack> stack_;  // that views_ points into
  StackViews views_;
  std::vector<std::int64_t> ids_;
  std::optional<StackPlan> plan_;
  std::unique_ptr<Trace> trace_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_TRACE_STACK_CALL_H_
