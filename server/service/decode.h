// WIRE: a request message becomes what the check reads (forms and options) and what the engine reads (views of its
// bytes). No element of a tensor is looked at.
#ifndef HEADLIGHT_SERVER_SERVICE_DECODE_H_
#define HEADLIGHT_SERVER_SERVICE_DECODE_H_

#include <memory>
#include <string>

#include "headlight/v1/attention_service.pb.h"
#include "server/engine/data.h"
#include "server/layers/store.h"
#include "server/problem/request.h"

namespace headlight {

// `data` borrows from the message, which outlives it, and from `layer`.
struct DecodedCall {
  ProblemRequest request;
  AttentionData data;
  std::shared_ptr<const Layer> layer;  // where a known one is named
};

DecodedCall Decode(const v1::AttendRequest& message, const LayerStore& layers);
DecodedCall Decode(const v1::CompareAlgorithmsRequest& message, const LayerStore& layers);
// Forms alone; `data` stays empty but for what a named layer has.
DecodedCall Decode(const v1::PlanAttentionRequest& message, const LayerStore& layers);

// What other services ask of a layer: embeddings, and matrices that were sent or, where `weights` is null, are named.
// As an Attend of the same; what is wrong is told of "self_attention", see RenameFields in server/base/errors.h.
DecodedCall DecodeLayered(const v1::Tensor& embeddings, const v1::LayerWeights* weights, const std::string& layer,
                          const v1::AttentionOptions& options, const LayerStore& layers);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_DECODE_H_
