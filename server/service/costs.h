// What admission and the log want to know of a plan.
#ifndef HEADLIGHT_SERVER_SERVICE_COSTS_H_
#define HEADLIGHT_SERVER_SERVICE_COSTS_H_

#include <cstdint>

#include "headlight/v1/attention_service.pb.h"
#include "server/admission/admission.h"
#include "server/plan/planner.h"
#include "server/telemetry/call_log.h"

namespace headlight {

// What the planner has to know of it.
Processor ThisProcessor();

CallShape ShapeOf(const ExecutionPlan& plan);

// Unspecified means interactive.
Priority PriorityOf(v1::Priority priority);

// `request_bytes`: what holds the request until the answer is made.
CallCost CostOf(const ExecutionPlan& plan, std::int64_t request_bytes, int workers);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_COSTS_H_
