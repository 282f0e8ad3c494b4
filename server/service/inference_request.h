// WIRE: the Open Inference Protocol v2 (KServe's, Triton's) as another form of Attend, for one model, "attention".
// Inputs "query", "key", "value" (FP32, FP16 or BF16, shaped as in QueryKeyValue) and, if wanted, "mask" (BOOL too);
// outputs "output" (which is sent where none is named), "log_sum_exp", "head_outputs" and "weights". Parameters are
// fields of AttentionOptions by their path, and a few more: docs/clients.md has them.
#ifndef HEADLIGHT_SERVER_SERVICE_INFERENCE_REQUEST_H_
#define HEADLIGHT_SERVER_SERVICE_INFERENCE_REQUEST_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "headlight/v1/attention_service.pb.h"
#include "inference/open_inference.grpc.pb.h"
#include "server/service/decode.h"

namespace headlight {

inline constexpr char kInferenceModel[] = "attention";
inline constexpr char kInferenceVersion[] = "1";

// What a request asks for. `decoded` borrows from the message and from `asked`.
struct InferenceAsked {
  v1::AttendRequest asked;  // options, outputs and priority; no tensors
  absl::Duration timeout = absl::InfiniteDuration();
  DecodedCall decoded;  // with what is wrong so far
};

// Fills `asked`, which outlives the call, as the message does.
void DecodeInference(const inference::ModelInferRequest& message, InferenceAsked* asked);

// A status about an Attend, told in the protocol's terms: inputs and parameters.
absl::Status InTermsOfInference(const absl::Status& status);

// Moves the tensors that were asked for out of `answer`.
void EncodeInference(const inference::ModelInferRequest& message, v1::AttendResponse&& answer,
                     inference::ModelInferResponse* response);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_INFERENCE_REQUEST_H_
