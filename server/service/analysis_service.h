// The RPCs of headlight.v1.AnalysisService.
#ifndef HEADLIGHT_SERVER_SERVICE_ANALYSIS_SERVICE_H_
#define HEADLIGHT_SERVER_SERVICE_ANALYSIS_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "headlight/v1/analysis_service.grpc.pb.h"
#include "server/service/calls.h"

namespace headlight {

// Callback service: no gRPC thread waits or computes. Thread-safe.
class AnalysisService final : public v1::AnalysisService::CallbackService {
 public:
  // Both outlive every call.
  AnalysisService(Shared& shared, const Door& door) : shared_(shared), door_(door) {}

  grpc::ServerUnaryReactor* AblateHeads(grpc::CallbackServerContext* context, const v1::AblateHeadsRequest* request,
                                        v1::AblateHeadsResponse* response) override;
  grpc::ServerUnaryReactor* TraceStack(grpc::CallbackServerContext* context, const v1::TraceStackRequest* request,
                                       v1::TraceStackResponse* response) override;
  grpc::ServerUnaryReactor* AnalyzeCircuits(grpc::CallbackServerContext* context,
                                            const v1::AnalyzeCircuitsRequest* request,
                                            v1::AnalyzeCircuitsResponse* response) override;
  grpc::ServerUnaryReactor* AnalyzeHeads(grpc::CallbackServerContext* context, const v1::AnalyzeHeadsRequest* request,
                                         v1::AnalyzeHeadsResponse* response) override;

 private:
  Shared& shared_;
  const Door& door_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_ANALYSIS_SERVICE_H_
