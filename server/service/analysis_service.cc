#include "server/service/analysis_service.h"

#include "server/service/trace_stack_call.h"

namespace headlight {

grpc::ServerUnaryReactor* AnalysisService::TraceStack(grpc::CallbackServerContext* context,
                                                      const v1::TraceStackRequest* request,
                                                      v1::TraceStackResponse* response) {
  return StartCall<TraceStackCall>({shared_, door_, Method::kTraceStack, context}, *request, response);
}

}  // namespace headlight
