#include "server/service/analysis_service.h"

#include "server/service/circuits_call.h"

namespace headlight {

grpc::ServerUnaryReactor* AnalysisService::AnalyzeCircuits(grpc::CallbackServerContext* context,
                                                           const v1::AnalyzeCircuitsRequest* request,
                                                           v1::AnalyzeCircuitsResponse* response) {
  return StartCall<CircuitsCall>({shared_, door_, Method::kAnalyzeCircuits, context}, *request, response);
}

}  // namespace headlight
