// gRPC's server reflection in its version v1; gRPC 1.51 has v1alpha alone.
#ifndef HEADLIGHT_SERVER_SERVICE_REFLECTION_SERVICE_H_
#define HEADLIGHT_SERVER_SERVICE_REFLECTION_SERVICE_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>
#include <string>
#include <vector>

namespace headlight {

// A thread-safe service that answers from the descriptors that are linked in and lists `services`, full names.
// nullptr where gRPC, from 1.60 on, has it itself.
std::unique_ptr<grpc::Service> MakeReflectionService(std::vector<std::string> services);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_REFLECTION_SERVICE_H_
