#include "server/service/analysis_service.h"

#include "server/service/analyze_heads_call.h"

namespace headlight {

grpc::ServerUnaryReactor* AnalysisService::AnalyzeHeads(grpc::CallbackServerContext* context,
                                                        const v1::AnalyzeHeadsRequest* request,
                                                        v1::AnalyzeHeadsResponse* response) {
  return StartCall<AnalyzeHeadsCall>({shared_, door_, Method::kAnalyzeHeads, context}, *request, response);
}

}  // namespace headlight
