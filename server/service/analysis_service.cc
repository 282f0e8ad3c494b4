#include "server/service/analysis_service.h"

#include "server/service/ablate_heads_call.h"

namespace headlight {

grpc::ServerUnaryReactor* AnalysisService::AblateHeads(grpc::CallbackServerContext* context,
                                                       const v1::AblateHeadsRequest* request,
                                                       v1::AblateHeadsResponse* response) {
  return StartCall<AblateHeadsCall>({shared_, door_, Method::kAblateHeads, context}, *request, response);
}

}  // namespace headlight
