// The floor of a call: gRPC's own work for the bytes of an Attend and its answer, and nothing else. Serves Attend's
// method name through the same callback API as our server, but takes the request as it came off the wire, never looks
// at it, and answers with a buffer made once. AttendStream likewise: when all messages have come it sends as many bytes
// as it was told, 1 MiB at a time.
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <string>

#include "headlight/v1/attention_service.grpc.pb.h"

namespace headlight {
namespace {

using RawAttend = v1::AttentionService::WithRawCallbackMethod_Attend<v1::AttentionService::Service>;
using RawMethods = v1::AttentionService::WithRawCallbackMethod_AttendStream<RawAttend>;

grpc::ByteBuffer BufferOf(std::size_t bytes) {
  const grpc::Slice slice(std::string(bytes, '\0'));
  return {&slice, 1};
}

class StreamEcho final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  // `chunk` outlives it.
  StreamEcho(const grpc::ByteBuffer& chunk, std::size_t chunks) : chunk_(chunk), left_(chunks) { StartRead(&message_); }

  void OnReadDone(bool ok) override {
    if (ok) return StartRead(&message_);
    Write();
  }
  void OnWriteDone(bool ok) override {
    if (ok) Write();
  }
  void OnDone() override { delete this; }

 private:
  void Write() {
    if (left_ == 0) return Finish(grpc::Status::OK);
    --left_;
    StartWrite(&chunk_);
  }

  const grpc::ByteBuffer& chunk_;
  grpc::ByteBuffer message_;
  std::size_t left_;
};

class Echo final : public RawMethods {
 public:
  explicit Echo(std::size_t answer_bytes)
      : answer_(BufferOf(answer_bytes)), chunk_(BufferOf(kChunkBytes)), chunks_(answer_bytes / kChunkBytes) {}

  grpc::ServerUnaryReactor* Attend(grpc::CallbackServerContext* context, const grpc::ByteBuffer* /*request*/,
                                   grpc::ByteBuffer* response) override {
    *response = answer_;
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* AttendStream(
      grpc::CallbackServerContext* /*context*/) override {
    return new StreamEcho(chunk_, chunks_);
  }

 private:
  static constexpr std::size_t kChunkBytes = std::size_t{1} << 20;
  const grpc::ByteBuffer answer_, chunk_;
  const std::size_t chunks_;
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
  CLI::App app{"A bare gRPC server: takes any Attend and AttendStream, answers with so many bytes."};
  std::size_t answer_bytes = 0;
  app.add_option("--answer-bytes", answer_bytes, "size of every answer")->required();
  CLI11_PARSE(app, argc, argv);
  return headlight::Main(answer_bytes);
}
