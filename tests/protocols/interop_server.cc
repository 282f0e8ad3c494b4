// gRPC's interoperability service behind gRPC as our server sets it up: headlight-interop-server [CERTIFICATE KEY].
// Prints its port, and serves until it is ended.
#include <grpc/testing/test.grpc.pb.h>

#include <cstddef>
#include <iostream>
#include <string>

#include "absl/time/clock.h"
#include "tests/protocols/listen.h"

namespace headlight {
namespace {

namespace testing = grpc::testing;

void Fill(int size, testing::Payload* payload) { payload->set_body(std::string(static_cast<std::size_t>(size), '\0')); }

grpc::Status StatusOf(const testing::EchoStatus& asked) {
  return {static_cast<grpc::StatusCode>(asked.code()), asked.message()};
}

// What a caller sent under these two names comes back, as header and trailer.
void EchoMetadata(grpc::ServerContext* context) {
  for (const auto& [key, value] : context->client_metadata()) {
    const std::string text(value.data(), value.size());
    if (key == "x-grpc-test-echo-initial") context->AddInitialMetadata("x-grpc-test-echo-initial", text);
    if (key == "x-grpc-test-echo-trailing-bin") context->AddTrailingMetadata("x-grpc-test-echo-trailing-bin", text);
  }
}

template <typename Stream>
void WriteAll(const testing::StreamingOutputCallRequest& request, Stream* stream) {
  for (const testing::ResponseParameters& asked : request.response_parameters()) {
    absl::SleepFor(absl::Microseconds(asked.interval_us()));
    testing::StreamingOutputCallResponse response;
    Fill(asked.size(), response.mutable_payload());
    stream->Write(response);
  }
}

class InteropService final : public testing::TestService::Service {
  grpc::Status EmptyCall(grpc::ServerContext* /*context*/, const testing::Empty* /*request*/,
                         testing::Empty* /*response*/) override {
    return grpc::Status::OK;
  }

  grpc::Status UnaryCall(grpc::ServerContext* context, const testing::SimpleRequest* request,
                         testing::SimpleResponse* response) override {
    EchoMetadata(context);
    Fill(request->response_size(), response->mutable_payload());
    return StatusOf(request->response_status());
  }

  grpc::Status StreamingInputCall(grpc::ServerContext* /*context*/,
                                  grpc::ServerReader<testing::StreamingInputCallRequest>* stream,
                                  testing::StreamingInputCallResponse* response) override {
    std::size_t bytes = 0;
    for (testing::StreamingInputCallRequest request; stream->Read(&request);) bytes += request.payload().body().size();
    response->set_aggregated_payload_size(static_cast<int>(bytes));
    return grpc::Status::OK;
  }

  grpc::Status StreamingOutputCall(grpc::ServerContext* /*context*/, const testing::StreamingOutputCallRequest* request,
                                   grpc::ServerWriter<testing::StreamingOutputCallResponse>* stream) override {
    WriteAll(*request, stream);
    return StatusOf(request->response_status());
  }

  grpc::Status FullDuplexCall(grpc::ServerContext* context,
                              grpc::ServerReaderWriter<testing::StreamingOutputCallResponse,
                                                       testing::StreamingOutputCallRequest>* stream) override {
    EchoMetadata(context);
    for (testing::StreamingOutputCallRequest request; stream->Read(&request);) {
      if (request.response_status().code() != 0) return StatusOf(request.response_status());
      WriteAll(request, stream);
    }
    return grpc::Status::OK;
  }
};

}  // namespace
}  // namespace headlight

int main(int count, char** arguments) {
  headlight::TransportOptions options;
  if (count == 3) {
    options.tls_certificate = arguments[1];
    options.tls_key = arguments[2];
  }
  headlight::InteropService service;
  const headlight::ListeningServer listening = headlight::ListenAsServer(options, {}, &service);
  std::cout << listening.port << '\n' << std::flush;
  listening.server->Wait();
}
