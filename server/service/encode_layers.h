// ENCODE: what the store holds into LayerService's messages.
#ifndef HEADLIGHT_SERVER_SERVICE_ENCODE_LAYERS_H_
#define HEADLIGHT_SERVER_SERVICE_ENCODE_LAYERS_H_

#include "headlight/v1/layer_service.pb.h"
#include "server/layers/layer.h"
#include "server/layers/layer_file.h"
#include "server/layers/stack.h"

namespace headlight {

void EncodeLayer(const Layer& layer, v1::LayerInfo* message);
void EncodeWeights(const Layer& layer, v1::LayerWeights* message);
void EncodeStack(const Stack& stack, bool with_vocabulary, v1::StackInfo* message);
void EncodeFile(const LayerFile& file, v1::UploadLayerResponse* message);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_ENCODE_LAYERS_H_
