// The floor of a call: gRPC's own work for the bytes of an Attend and its answer, and nothing else. Serves Attend's
// method name through the same callback API as our server, but takes the request as it came off the wire, never looks
// at it, and answers with a buffer made once.
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <string>

#include "headlight/v1/attention_service.grpc.pb.h"

namespace headlight {
namespace {

using RawAttend = v1::AttentionService::WithRawCallbackMethod_Attend<v1::AttentionService::Service>;

class Echo final : public RawAttend {
 public:
  explicit Echo(std::size_t answer_bytes) : slice_(std::string(answer_bytes, '\0')), answer_(&slice_, 1) {}

  grpc::ServerUnaryReactor* Attend(grpc::CallbackServerContext* context, const grpc::ByteBuffer* /*request*/,
                                   grpc::ByteBuffer* response) override {
    *response = answer_;
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  const grpc::Slice slice_;
  const grpc::ByteBuffer answer_;
};

int Main(std::size_t answer_bytes) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  // Blocked before any thread starts, so that all inherit it and only sigwait below sees them.
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  Echo service(answer_bytes);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.SetMaxSendMessageSize(-1);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) return 1;
  std::printf("ready grpc=127.0.0.1:%d\n", port);
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}

}  // namespace
}  // namespace headlight

int main(int argc, char** argv) {
  CLI::App app{"A bare gRPC server: takes any Attend, answers with so many bytes."};
  std::size_t answer_bytes = 0;
  app.add_option("--answer-bytes", answer_bytes, "size of every answer")->required();
  CLI11_PARSE(app, argc, argv);
  return headlight::Main(answer_bytes);
}
