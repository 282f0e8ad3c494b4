// The same streamed call to our server and to a bare echo, turn by turn: prebuilt messages out, answers counted and not
// parsed, so what is measured is the servers and gRPC. The first answer is checked. One line of JSON comes out.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "client/cpp/client.h"
#include "client/cpp/plan.h"
#include "client/cpp/tensors.h"
#include "tests/bench/service/relay.h"

namespace headlight::bench {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 20;
constexpr char kMethod[] = "/headlight.v1.AttentionService/AttendStream";

struct Options {
  std::string server, echo;
  std::int64_t heads = 8, queries = 0, keys = 0, size = 64;
  int runs = 7;
  std::int64_t link = 0;  // bytes a second each way; 0: the loopback as it is
  double tolerance = 1e-4;
};

v1::Tensor Random(const Options& options, std::int64_t tokens, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<std::size_t>(options.heads * tokens * options.size));
  for (float& value : values) value = static_cast<float>(random()) * 0x1p-31F - 1;
  return *client::MakeTensor(values, {1, options.heads, tokens, options.size}, v1::TENSOR_KIND_F32);
}

v1::AttendRequest RequestOf(const Options& options) {
  v1::AttendRequest request;
  *request.mutable_query_key_value()->mutable_query() = Random(options, options.queries, 1);
  *request.mutable_query_key_value()->mutable_key() = Random(options, options.keys, 2);
  *request.mutable_query_key_value()->mutable_value() = Random(options, options.keys, 3);
  return request;
}

grpc::ByteBuffer Packed(const v1::AttendStreamRequest& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return {&slice, 1};
}

std::vector<grpc::ByteBuffer> MessagesOf(const v1::AttendRequest& request) {
  std::vector<grpc::ByteBuffer> messages;
  v1::AttendStreamRequest header, commit;
  *header.mutable_header()->mutable_call() = client::PlanRequestOf(request);
  messages.push_back(Packed(header));
  const auto add = [&messages](v1::StreamedTensor name, const std::string& data) {
    for (std::size_t offset = 0; offset < data.size(); offset += kChunkBytes) {
      v1::AttendStreamRequest message;
      message.mutable_chunk()->set_tensor(name);
      message.mutable_chunk()->set_offset(offset);
      message.mutable_chunk()->set_data(data.substr(offset, kChunkBytes));
      messages.push_back(Packed(message));
    }
  };
  add(v1::STREAMED_TENSOR_KEY, request.query_key_value().key().f32_le());
  add(v1::STREAMED_TENSOR_VALUE, request.query_key_value().value().f32_le());
  add(v1::STREAMED_TENSOR_QUERY, request.query_key_value().query().f32_le());
  commit.mutable_commit();
  messages.push_back(Packed(commit));
  return messages;
}

// A connection with a completion queue of its own.
class Caller {
 public:
  explicit Caller(const std::string& address) : stub_(Connect(address)) {}

  // Seconds of one call, whose answer has at least so many bytes. Errors: the call's.
  grpc::Status Call(const std::vector<grpc::ByteBuffer>& messages, std::size_t answer_bytes, double* seconds) {
    grpc::ClientContext context;
    const auto began = std::chrono::steady_clock::now();
    const auto call = stub_.PrepareCall(&context, kMethod, &queue_);
    call->StartCall(Tag(kStarted));
    if (!Next(kStarted)) return {grpc::StatusCode::UNAVAILABLE, "the call did not begin"};
    grpc::ByteBuffer answer;
    std::size_t sent = 0, received = 0;
    bool reading = true, writing = true;
    call->Read(&answer, Tag(kRead));
    call->Write(messages[sent], Tag(kWritten));
    while (reading || writing) {
      bool ok = false;
      if (Wait(&ok) == kRead) {
        reading = ok;
        if (!ok) continue;
        received += answer.Length();
        call->Read(&answer, Tag(kRead));
      } else if (!ok || sent == messages.size()) {
        writing = false;
      } else if (++sent < messages.size()) {
        call->Write(messages[sent], Tag(kWritten));
      } else {
        call->WritesDone(Tag(kWritten));
      }
    }
    grpc::Status status;
    call->Finish(&status, Tag(kEnded));
    Next(kEnded);
    *seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    if (status.ok() && received < answer_bytes) return {grpc::StatusCode::DATA_LOSS, "a short answer"};
    return status;
  }

 private:
  enum Step : std::uint8_t { kStarted, kRead, kWritten, kEnded };
  // A place whose address is the step's tag.
  void* Tag(Step step) { return &tags_[step]; }

  static std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetMaxSendMessageSize(-1);
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }

  Step Wait(bool* ok) {
    void* tag = nullptr;
    queue_.Next(&tag, ok);
    return static_cast<Step>(static_cast<char*>(tag) - tags_);
  }
  bool Next(Step step) {
    bool ok = false;
    return Wait(&ok) == step && ok;
  }

  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  char tags_[kEnded + 1] = {};
};

// The error of the answer against double precision.
absl::StatusOr<double> Check(const Options& options, v1::AttendRequest request) {
  const auto client = client::Client::Create({.address = options.server});
  if (!client.ok()) return client.status();
  request.mutable_outputs()->set_verify_rows(16);
  const auto answer = (*client)->AttendStream(request);
  if (!answer.ok()) return answer.status();
  return answer->execution().verification().max_abs_error();
}

int Fail(const std::string& what) {
  std::fprintf(stderr, "headlight-stream-load: %s\n", what.c_str());
  return 1;
}

int Run(const Options& options) {
  const v1::AttendRequest request = RequestOf(options);
  const absl::StatusOr<double> error = Check(options, request);
  if (!error.ok()) return Fail(error.status().ToString());
  if (!(*error <= options.tolerance)) return Fail("the answer is wrong");
  const std::vector<grpc::ByteBuffer> messages = MessagesOf(request);
  const std::size_t answer_bytes = request.query_key_value().query().f32_le().size();
  std::size_t request_bytes = 0;
  for (const grpc::ByteBuffer& message : messages) request_bytes += message.Length();
  nlohmann::json result = {{"request_bytes", request_bytes}, {"answer_bytes", answer_bytes}, {"max_abs_error", *error}};
  std::optional<Relay> relays[2];
  if (options.link > 0) {
    relays[0].emplace(options.server, options.link);
    relays[1].emplace(options.echo, options.link);
  }
  Caller server(options.link > 0 ? relays[0]->address() : options.server);
  Caller echo(options.link > 0 ? relays[1]->address() : options.echo);
  // The first of each does not count.
  for (int run = -1; run < options.runs; ++run) {
    for (auto& [name, caller] : {std::pair<const char*, Caller*>{"echo", &echo}, {"server", &server}}) {
      double seconds = 0;
      const grpc::Status status = caller->Call(messages, answer_bytes, &seconds);
      if (!status.ok()) return Fail(std::string(name) + ": " + status.error_message());
      if (run >= 0) result[name].push_back(seconds);
    }
  }
  std::printf("%s\n", result.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace headlight::bench

int main(int argc, char** argv) {
  CLI::App app{"Streams one call to a server and to an echo, turn by turn."};
  headlight::bench::Options options;
  app.add_option("--server", options.server, "address of our server")->required();
  app.add_option("--echo", options.echo, "address of the echo")->required();
  app.add_option("--heads", options.heads, "H");
  app.add_option("--queries", options.queries, "Tq")->required();
  app.add_option("--keys", options.keys, "Tk")->required();
  app.add_option("--size", options.size, "D");
  app.add_option("--runs", options.runs, "of each");
  app.add_option("--link", options.link, "bytes a second each way, through a relay; 0: none");
  CLI11_PARSE(app, argc, argv);
  return headlight::bench::Run(options);
}
