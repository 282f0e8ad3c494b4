// Parameters of the Open Inference Protocol as fields of a message.
#ifndef HEADLIGHT_SERVER_SERVICE_INFERENCE_PARAMETERS_H_
#define HEADLIGHT_SERVER_SERVICE_INFERENCE_PARAMETERS_H_

#include "inference/open_inference.pb.h"
#include "server/base/errors.h"
#include "server/service/inference_request.h"

namespace headlight {

// Sets what the parameters say: "options" first (AttentionOptions as JSON), then the others, but for those whose name
// begins with "triton_". Adds what is wrong with them to the violations of `asked->decoded`.
void DecodeParameters(const inference::ModelInferRequest& message, InferenceAsked* asked);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_INFERENCE_PARAMETERS_H_
