// The service that Connect's conformance suite calls.
#ifndef HEADLIGHT_TESTS_PROTOCOLS_SUITE_SERVICE_H_
#define HEADLIGHT_TESTS_PROTOCOLS_SUITE_SERVICE_H_

#include <connectrpc/conformance/v1/service.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <memory>

namespace headlight {

// Answers as the definition in each request says (connectrpc/conformance/v1/service.proto).
std::unique_ptr<connectrpc::conformance::v1::ConformanceService::Service> MakeSuiteService();

}  // namespace headlight

#endif  // HEADLIGHT_TESTS_PROTOCOLS_SUITE_SERVICE_H_
