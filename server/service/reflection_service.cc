#include "server/service/reflection_service.h"

#if __has_include("grpc/reflection/v1/reflection.grpc.pb.h")
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/grpcpp.h>

#include <set>
#include <utility>

#include "grpc/reflection/v1/reflection.grpc.pb.h"

namespace headlight {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using grpc::reflection::v1::FileDescriptorResponse;
using Request = grpc::reflection::v1::ServerReflectionRequest;
using Response = grpc::reflection::v1::ServerReflectionResponse;

// A file and all that it imports, each once.
void AddFile(const FileDescriptor& file, std::set<const FileDescriptor*>& added, FileDescriptorResponse* answer) {
  if (!added.insert(&file).second) return;
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  proto.SerializeToString(answer->add_file_descriptor_proto());
  for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i), added, answer);
}

// nullptr: there is none.
const FileDescriptor* FindFile(const DescriptorPool& pool, const Request& request) {
  if (request.message_request_case() == Request::kFileByFilename)
    return pool.FindFileByName(request.file_by_filename());
  if (request.message_request_case() == Request::kFileContainingSymbol) {
    return pool.FindFileContainingSymbol(request.file_containing_symbol());
  }
  const Descriptor* type = pool.FindMessageTypeByName(request.file_containing_extension().containing_type());
  if (type == nullptr) return nullptr;
  const FieldDescriptor* extension =
      pool.FindExtensionByNumber(type, request.file_containing_extension().extension_number());
  return extension == nullptr ? nullptr : extension->file();
}

void Fail(grpc::StatusCode code, const std::string& message, Response* response) {
  response->mutable_error_response()->set_error_code(code);
  response->mutable_error_response()->set_error_message(message);
}

void AnswerExtensions(const DescriptorPool& pool, const std::string& name, Response* response) {
  const Descriptor* type = pool.FindMessageTypeByName(name);
  if (type == nullptr) return Fail(grpc::StatusCode::NOT_FOUND, "no such type", response);
  std::vector<const FieldDescriptor*> extensions;
  pool.FindAllExtensions(type, &extensions);
  auto* answer = response->mutable_all_extension_numbers_response();
  answer->set_base_type_name(name);
  for (const FieldDescriptor* extension : extensions) answer->add_extension_number(extension->number());
}

void AnswerOne(const Request& request, const std::vector<std::string>& services, Response* response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  response->set_valid_host(request.host());
  *response->mutable_original_request() = request;
  switch (request.message_request_case()) {
    case Request::kListServices:
      for (const std::string& name : services)
        response->mutable_list_services_response()->add_service()->set_name(name);
      return;
    case Request::kAllExtensionNumbersOfType:
      return AnswerExtensions(pool, request.all_extension_numbers_of_type(), response);
    case Request::kFileByFilename:
    case Request::kFileContainingSymbol:
    case Request::kFileContainingExtension: {
      const FileDescriptor* file = FindFile(pool, request);
      if (file == nullptr) return Fail(grpc::StatusCode::NOT_FOUND, "no such file, symbol or extension", response);
      std::set<const FileDescriptor*> added;
      return AddFile(*file, added, response->mutable_file_descriptor_response());
    }
    case Request::MESSAGE_REQUEST_NOT_SET: break;
  }
  Fail(grpc::StatusCode::INVALID_ARGUMENT, "nothing is asked", response);
}

// Reads and answers in turn until the client has no more questions.
class Conversation final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  explicit Conversation(const std::vector<std::string>& services) : services_(services) { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    response_.Clear();
    AnswerOne(request_, services_, &response_);
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  const std::vector<std::string>& services_;
  Request request_;
  Response response_;
};

class ReflectionService final : public grpc::reflection::v1::ServerReflection::CallbackService {
 public:
  explicit ReflectionService(std::vector<std::string> services) : services_(std::move(services)) {}

  grpc::ServerBidiReactor<Request, Response>* ServerReflectionInfo(grpc::CallbackServerContext* /*context*/) override {
    return new Conversation(services_);
  }

 private:
  const std::vector<std::string> services_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeReflectionService(std::vector<std::string> services) {
  return std::make_unique<ReflectionService>(std::move(services));
}

}  // namespace headlight
#else
namespace headlight {
std::unique_ptr<grpc::Service> MakeReflectionService(std::vector<std::string> /*services*/) { return nullptr; }
}  // namespace headlight
#endif
