#include "tests/protocols/suite_service.h"

#include <google/rpc/error_details.pb.h>

#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/time/clock.h"

namespace headlight {
namespace {

namespace suite = connectrpc::conformance::v1;
using RequestInfo = suite::ConformancePayload::RequestInfo;

RequestInfo InfoOf(const grpc::ServerContext& context) {
  RequestInfo info;
  std::string last;
  for (const auto& [key, value] : context.client_metadata()) {
    const std::string name(key.data(), key.size());
    std::string text(value.data(), value.size());
    if (absl::EndsWith(name, "-bin")) text = absl::Base64Escape(text);
    if (name != last) info.add_request_headers()->set_name(name);
    info.mutable_request_headers()->rbegin()->add_value(text);
    last = name;
  }
  if (context.deadline() != std::chrono::system_clock::time_point::max()) {
    info.set_timeout_ms(absl::ToInt64Milliseconds(absl::FromChrono(context.deadline()) - absl::Now()));
  }
  return info;
}

std::string Sent(const std::string& name, const std::string& value) {
  std::string bytes = value;
  if (absl::EndsWith(name, "-bin")) absl::Base64Unescape(value, &bytes);
  return bytes;
}

template <typename Definition>
void AddMetadata(const Definition& wanted, grpc::ServerContext* context) {
  for (const auto& header : wanted.response_headers()) {
    for (const auto& value : header.value()) context->AddInitialMetadata(header.name(), Sent(header.name(), value));
  }
  for (const auto& trailer : wanted.response_trailers()) {
    for (const auto& value : trailer.value()) context->AddTrailingMetadata(trailer.name(), Sent(trailer.name(), value));
  }
}

// `info` is null where an answer has brought it.
grpc::Status ErrorOf(const suite::Error& error, const RequestInfo* info) {
  google::rpc::Status status;
  status.set_code(error.code());
  status.set_message(error.message());
  for (const auto& detail : error.details()) *status.add_details() = detail;
  if (info != nullptr) status.add_details()->PackFrom(*info);
  return {static_cast<grpc::StatusCode>(status.code()), status.message(), status.SerializeAsString()};
}

grpc::Status AnswerOnce(const suite::UnaryResponseDefinition& wanted, RequestInfo info, grpc::ServerContext* context,
                        suite::ConformancePayload* payload) {
  AddMetadata(wanted, context);
  absl::SleepFor(absl::Milliseconds(wanted.response_delay_ms()));
  if (wanted.has_error()) return ErrorOf(wanted.error(), &info);
  payload->set_data(wanted.response_data());
  *payload->mutable_request_info() = std::move(info);
  return grpc::Status::OK;
}

// The answers of a stream, one at a time.
template <typename Response, typename Stream>
class Answers {
 public:
  Answers(const suite::StreamResponseDefinition& wanted, grpc::ServerContext* context, Stream* stream)
      : wanted_(wanted), stream_(stream) {
    AddMetadata(wanted, context);
    if (!done()) stream->SendInitialMetadata();
  }

  bool done() const { return sent_ == wanted_.response_data_size(); }
  bool Send(const RequestInfo* info) {
    Response response;
    response.mutable_payload()->set_data(wanted_.response_data(sent_++));
    if (info != nullptr) *response.mutable_payload()->mutable_request_info() = *info;
    absl::SleepFor(absl::Milliseconds(wanted_.response_delay_ms()));
    return stream_->Write(response);
  }
  // All that are left; with `info` where none was sent before.
  grpc::Status End(const RequestInfo& info) {
    while (!done() && Send(sent_ == 0 ? &info : nullptr)) {
    }
    return wanted_.has_error() ? ErrorOf(wanted_.error(), sent_ == 0 ? &info : nullptr) : grpc::Status::OK;
  }

 private:
  const suite::StreamResponseDefinition wanted_;
  Stream* const stream_;
  int sent_ = 0;
};

class SuiteService final : public suite::ConformanceService::Service {
  grpc::Status Unary(grpc::ServerContext* context, const suite::UnaryRequest* request,
                     suite::UnaryResponse* response) override {
    return AnswerRequest(*request, context, response->mutable_payload());
  }
  grpc::Status IdempotentUnary(grpc::ServerContext* context, const suite::IdempotentUnaryRequest* request,
                               suite::IdempotentUnaryResponse* response) override {
    return AnswerRequest(*request, context, response->mutable_payload());
  }
  template <typename Request>
  static grpc::Status AnswerRequest(const Request& request, grpc::ServerContext* context,
                                    suite::ConformancePayload* payload) {
    RequestInfo info = InfoOf(*context);
    info.add_requests()->PackFrom(request);
    return AnswerOnce(request.response_definition(), std::move(info), context, payload);
  }

  grpc::Status ClientStream(grpc::ServerContext* context, grpc::ServerReader<suite::ClientStreamRequest>* stream,
                            suite::ClientStreamResponse* response) override {
    RequestInfo info = InfoOf(*context);
    suite::UnaryResponseDefinition wanted;
    for (suite::ClientStreamRequest request; stream->Read(&request);) {
      if (info.requests().empty()) wanted = request.response_definition();
      info.add_requests()->PackFrom(request);
    }
    return AnswerOnce(wanted, std::move(info), context, response->mutable_payload());
  }

  grpc::Status ServerStream(grpc::ServerContext* context, const suite::ServerStreamRequest* request,
                            grpc::ServerWriter<suite::ServerStreamResponse>* stream) override {
    RequestInfo info = InfoOf(*context);
    info.add_requests()->PackFrom(*request);
    return Answers<suite::ServerStreamResponse, std::remove_pointer_t<decltype(stream)>>(request->response_definition(),
                                                                                         context, stream)
        .End(info);
  }

  grpc::Status BidiStream(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<suite::BidiStreamResponse, suite::BidiStreamRequest>* stream) override {
    RequestInfo info = InfoOf(*context);
    suite::BidiStreamRequest request;
    if (!stream->Read(&request)) return grpc::Status::OK;
    const bool in_turn = request.full_duplex();
    Answers<suite::BidiStreamResponse, std::remove_pointer_t<decltype(stream)>> answers(request.response_definition(),
                                                                                        context, stream);
    do {
      info.add_requests()->PackFrom(request);
      if (!in_turn) continue;
      if (answers.done() || !answers.Send(&info)) break;
      info = {};  // what was said once is not said again
    } while (stream->Read(&request));
    return answers.End(info);
  }
};

}  // namespace

std::unique_ptr<suite::ConformanceService::Service> MakeSuiteService() { return std::make_unique<SuiteService>(); }

}  // namespace headlight
