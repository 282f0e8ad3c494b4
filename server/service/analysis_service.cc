#include "server/service/analysis_service.h"

#include "server/service/ablate_heads_call.h"
#include "server/service/analyze_heads_call.h"
#include "server/service/circuits_call.h"
#include "server/service/trace_stack_call.h"

namespace headlight {

grpc::ServerUnaryReactor* AnalysisService::AblateHeads(grpc::CallbackServerContext* context,
                                                       const v1::AblateHeadsRequest* request,
                                                       v1::AblateHeadsResponse* response) {
  return StartCall<AblateHeadsCall>({shared_, door_, Method::kAblateHeads, context}, *request, response);
}

grpc::ServerUnaryReactor* AnalysisService::TraceStack(grpc::CallbackServerContext* context,
                                                      const v1::TraceStackRequest* request,
                                                      v1::TraceStackResponse* response) {
  return StartCall<TraceStackCall>({shared_, door_, Method::kTraceStack, context}, *request, response);
}

grpc::ServerUnaryReactor* AnalysisService::AnalyzeCircuits(grpc::CallbackServerContext* context,
                                                           const v1::AnalyzeCircuitsRequest* request,
                                                           v1::AnalyzeCircuitsResponse* response) {
  return StartCall<CircuitsCall>({shared_, door_, Method::kAnalyzeCircuits, context}, *request, response);
}

grpc::ServerUnaryReactor* AnalysisService::AnalyzeHeads(grpc::CallbackServerContext* context,
                                                        const v1::AnalyzeHeadsRequest* request,
                                                        v1::AnalyzeHeadsResponse* response) {
  return StartCall<AnalyzeHeadsCall>({shared_, door_, Method::kAnalyzeHeads, context}, *request, response);
}

}  // namespace headlight
