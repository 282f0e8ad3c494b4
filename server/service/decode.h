// WIRE: a request message becomes what the check reads (forms and options) and what the engine reads (views of its
// bytes). No element of a tensor is looked at.
#ifndef HEADLIGHT_SERVER_SERVICE_DECODE_H_
#define HEADLIGHT_SERVER_SERVICE_DECODE_H_

#include "headlight/v1/attention_service.pb.h"
#include "server/engine/data.h"
#include "server/problem/request.h"

namespace headlight {

// `data` borrows from the message, which outlives it.
struct DecodedCall {
  ProblemRequest request;
  AttentionData data;
};

DecodedCall Decode(const v1::AttendRequest& message);
DecodedCall Decode(const v1::CompareAlgorithmsRequest& message);
// Forms alone; `data` stays empty but for what a named layer has.
DecodedCall Decode(const v1::PlanAttentionRequest& message);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_DECODE_H_
