#include "server/service/layer_service.h"

#include "server/service/decode_fields.h"
#include "server/service/encode_layers.h"
#include "server/service/get_layer_call.h"
#include "server/service/prune_call.h"
#include "server/service/upload_reactor.h"

namespace headlight {

grpc::ServerReadReactor<v1::UploadLayerRequest>* LayerService::UploadLayer(grpc::CallbackServerContext* context,
                                                                           v1::UploadLayerResponse* response) {
  return StartUpload({shared_, door_, Method::kUploadLayer, context}, response);
}

grpc::ServerUnaryReactor* LayerService::PruneLayer(grpc::CallbackServerContext* context,
                                                   const v1::PruneLayerRequest* request,
                                                   v1::PruneLayerResponse* response) {
  const Arrival arrival{shared_, door_, Method::kPruneLayer, context};
  if (const absl::Status may = door_.CheckUpload(*context); !may.ok()) {
    return Answer(arrival, *request, *response, [&may] { return may; });
  }
  return StartCall<PruneCall>(arrival, *request, response);
}

grpc::ServerUnaryReactor* LayerService::ListLayers(grpc::CallbackServerContext* context,
                                                   const v1::ListLayersRequest* request,
                                                   v1::ListLayersResponse* response) {
  return Answer({shared_, door_, Method::kListLayers, context}, *request, *response, [&] {
    for (const auto& layer : shared_.layers.layers()) EncodeLayer(*layer, response->add_layers());
    for (const auto& stack : shared_.layers.stacks()) {
      EncodeStack(*stack, /*with_vocabulary=*/false, response->add_stacks());
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* LayerService::GetLayer(grpc::CallbackServerContext* context,
                                                 const v1::GetLayerRequest* request, v1::GetLayerResponse* response) {
  return StartCall<GetLayerCall>({shared_, door_, Method::kGetLayer, context}, *request, response);
}

grpc::ServerUnaryReactor* LayerService::DeleteLayer(grpc::CallbackServerContext* context,
                                                    const v1::DeleteLayerRequest* request,
                                                    v1::DeleteLayerResponse* response) {
  return Answer({shared_, door_, Method::kDeleteLayer, context}, *request, *response, [&]() -> absl::Status {
    if (absl::Status may = door_.CheckUpload(*context); !may.ok()) return may;
    Violations violations;
    CheckName("name", request->name(), shared_.limits, violations);
    if (!violations.empty()) return violations.ToStatus();
    const absl::StatusOr<LayerStore::Removed> removed = shared_.layers.Remove(request->name());
    if (!removed.ok()) return removed.status();
    response->mutable_layers()->Assign(removed->layers.begin(), removed->layers.end());
    response->set_id(removed->id);
    return absl::OkStatus();
  });
}

}  // namespace headlight
