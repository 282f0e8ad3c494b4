// What PlanAttention is asked, from what Attend would be asked.
#ifndef HEADLIGHT_CLIENT_CPP_PLAN_H_
#define HEADLIGHT_CLIENT_CPP_PLAN_H_

#include "headlight/v1/attention_service.pb.h"

namespace headlight::client {

// The shape and the kind of a tensor; kind UNSPECIFIED where it has no data.
v1::TensorSpec SpecOf(const v1::Tensor& tensor);

// The same call without its data: every tensor becomes its spec, those of the mask and of a learned table as
// mask_tensor and learned_table; options, outputs and priority stay. The labels are left out. Nothing is checked.
v1::PlanAttentionRequest PlanRequestOf(const v1::AttendRequest& request);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CPP_PLAN_H_
