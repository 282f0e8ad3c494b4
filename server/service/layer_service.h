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

  grpc::ServerReadReactor<v1::UploadLayerRequest>* UploadLayer(grpc::CallbackServerContext* context,
                                                               v1::UploadLayerResponse* response) override;
  grpc::ServerUnaryReactor* PruneLayer(grpc::CallbackServerContext* context, const v1::PruneLayerRequest* request,
                                       v1::PruneLayerResponse* response) override;
  grpc::ServerUnaryReactor* ListLayers(grpc::CallbackServerContext* context, const v1::ListLayersRequest* request,
                                       v1::ListLayersResponse* response) override;
  grpc::ServerUnaryReactor* GetLayer(grpc::CallbackServerContext* context, const v1::GetLayerRequest* request,
                                     v1::GetLayerResponse* response) override;
  grpc::ServerUnaryReactor* DeleteLayer(grpc::CallbackServerContext* context, const v1::DeleteLayerRequest* request,
                                        v1::DeleteLayerResponse* response) override;

 private:
  Shared& shared_;
  const Door& door_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_LAYER_SERVICE_H_
