// What a TraceStack asks for, held against the stack that it names.
#ifndef HEADLIGHT_SERVER_SERVICE_DECODE_TRACE_H_
#define HEADLIGHT_SERVER_SERVICE_DECODE_TRACE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "headlight/v1/analysis_service.pb.h"
#include "server/analysis/attribution.h"
#include "server/base/limits.h"
#include "server/layers/stack.h"
#include "server/plan/stack_plan.h"

namespace headlight {

// The stack's numbers, and its forms; it outlives the views.
StackViews ViewsOf(const Stack& stack);
StackForm FormOf(const Stack& stack);

struct DecodedTrace {
  std::vector<std::int64_t> ids;
  StackWish wish;
  AttributionRequest attribution;
};

// `stack` null: no stack has the name. Errors: INVALID_ARGUMENT (every violation at once), NOT_FOUND where that is all.
absl::StatusOr<DecodedTrace> DecodeTrace(const v1::TraceStackRequest& request, const Stack* stack,
                                         const Limits& limits);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_DECODE_TRACE_H_
