// The RPCs of headlight.v1.LayerService.
#ifndef HEADLIGHT_SERVER_SERVICE_LAYER_SERVICE_H_
#define HEADLIGHT_SERVER_SERVICE_LAYER_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "headlight/v1/layer_service.grpc.pb.h"
#include "server/service/calls.h"

namespace headlight {

// Callback service: no gRPC thread waits or computes. Thread-safe.
class LayerService final : public v1::LayerService::CallbackService {
 public:
  // Both outlive every call.
  LayerService(Shared& shared, const Door& door) : shared_(shared), door_(door) {}

 private:
  Shared& shared_;
  const Door& door_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_LAYER_SERVICE_H_
