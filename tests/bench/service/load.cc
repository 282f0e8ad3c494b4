// A closed loop against any gRPC server: every client sends the same bytes again as soon as the answer is there.
// Neither request nor answer is parsed while time is taken, so what is measured is the server and gRPC. One line of
// JSON comes out; the first answer is checked before anything is timed.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/service/wire_field.h"

namespace headlight::bench {
namespace {

using Clock = std::chrono::steady_clock;

// An answer of every so many has the times that the server tells read out of it, between two calls.
constexpr int kTimesEvery = 16;
constexpr int kLeastCalls = 2;
// An answer that tells how long it took varies by some bytes.
constexpr std::size_t kVaryingBytes = 64;

struct Options {
  std::string address, method, request_file, expect_file, output_field;
  std::vector<std::string> time_fields;  // NAME=PATH
  int clients = 1;
  double seconds = 2, warmup = 0.5, tolerance = 1e-4;
};

struct Plan {
  Options options;
  grpc::ByteBuffer request;
  std::size_t answer_bytes = 0;  // at least so many
  std::map<std::string, FieldPath> times;
  Clock::time_point begin, end;
};

// What one client saw between begin and end.
struct Seen {
  std::vector<double> latencies;  // seconds, of the calls that began after begin
  std::int64_t calls = 0;         // that ended
  std::map<std::string, std::vector<double>> times;
  std::string failure;
};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

// A connection of its own with a completion queue of its own: the caller polls, and no thread wakes another.
class Caller {
 public:
  explicit Caller(const Plan& plan) : plan_(plan), stub_(Connect(plan.options.address)) {}

  grpc::Status Call(grpc::ByteBuffer* answer) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    const auto call = stub_.PrepareUnaryCall(&context, plan_.options.method, plan_.request, &queue_);
    grpc::Status status;
    call->StartCall();
    call->Finish(answer, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue_.Next(&tag, &ok);
    if (status.ok() && answer->Length() < plan_.answer_bytes) return {grpc::StatusCode::DATA_LOSS, "a short answer"};
    return status;
  }

 private:
  static std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetMaxSendMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }

  const Plan& plan_;
  grpc::CompletionQueue queue_;
  grpc::GenericStub stub_;
};

std::string Describe(const grpc::Status& status) {
  return "status " + std::to_string(status.error_code()) + ": " + status.error_message();
}

// The largest difference of two arrays of float32; infinity where they are not of one size, or one is no number.
double Apart(const std::string& got, const std::string& expected) {
  if (got.size() != expected.size() || got.size() % sizeof(float) != 0) return HUGE_VAL;
  double most = 0;
  for (std::size_t at = 0; at < got.size(); at += sizeof(float)) {
    float a = 0, b = 0;
    std::memcpy(&a, got.data() + at, sizeof(a));
    std::memcpy(&b, expected.data() + at, sizeof(b));
    const double apart = std::abs(static_cast<double>(a) - b);
    most = apart <= most ? most : std::isnan(apart) ? HUGE_VAL : apart;
  }
  return most;
}

// Makes one call and compares its answer. Returns what is wrong with it, or nothing; leaves the difference in `apart`.
std::string CheckFirstAnswer(Plan& plan, double* apart) {
  grpc::ByteBuffer answer;
  Caller caller(plan);
  const Clock::time_point began = Clock::now();
  const grpc::Status status = caller.Call(&answer);
  // Of long calls every client must get some done, even where the server does one after the other.
  const double took = std::chrono::duration<double>(Clock::now() - began).count();
  plan.options.seconds = std::max(plan.options.seconds, kLeastCalls * took * plan.options.clients);
  if (!status.ok()) return Describe(status);
  plan.answer_bytes = answer.Length() - std::min(answer.Length(), kVaryingBytes);
  if (plan.options.expect_file.empty()) return "";
  const std::string expected = ReadFile(plan.options.expect_file);
  const auto path = ParseFieldPath(plan.options.output_field);
  const auto got = path.has_value() ? BytesAt(answer, *path) : std::nullopt;
  if (expected.empty() || !got.has_value()) return "nothing to compare: no file, or no such field in the answer";
  *apart = Apart(*got, expected);
  return *apart <= plan.options.tolerance ? "" : "the answer is wrong by " + std::to_string(*apart);
}

void RunClient(const Plan& plan, Seen* seen) {
  Caller caller(plan);
  while (true) {
    const Clock::time_point began = Clock::now();
    if (began >= plan.end) return;
    grpc::ByteBuffer answer;
    const grpc::Status status = caller.Call(&answer);
    const Clock::time_point ended = Clock::now();
    if (!status.ok()) {
      seen->failure = Describe(status);
      return;
    }
    if (ended < plan.begin || ended >= plan.end) continue;
    const bool tells_times = seen->calls++ % kTimesEvery == 0;
    if (began >= plan.begin) seen->latencies.push_back(std::chrono::duration<double>(ended - began).count());
    if (!tells_times) continue;
    for (const auto& [name, path] : plan.times) seen->times[name].push_back(SecondsAt(answer, path).value_or(0));
  }
}

// The smallest of the samples that at least this share of them does not exceed, in microseconds; 0 of none.
double Percentile(std::vector<double>& samples, double share) {
  if (samples.empty()) return 0;
  const auto rank = static_cast<std::ptrdiff_t>(std::ceil(share * static_cast<double>(samples.size())));
  const auto at = samples.begin() + std::max<std::ptrdiff_t>(rank - 1, 0);
  std::nth_element(samples.begin(), at, samples.end());
  return *at * 1e6;
}

nlohmann::json Report(const Plan& plan, std::vector<Seen>& clients, double apart) {
  Seen all;
  for (Seen& seen : clients) {
    all.calls += seen.calls;
    all.latencies.insert(all.latencies.end(), seen.latencies.begin(), seen.latencies.end());
    for (auto& [name, times] : seen.times) {
      all.times[name].insert(all.times[name].end(), times.begin(), times.end());
    }
  }
  nlohmann::json report = {{"calls", all.calls},
                           {"seconds", plan.options.seconds},
                           {"calls_per_second", static_cast<double>(all.calls) / plan.options.seconds},
                           {"p50_us", Percentile(all.latencies, 0.5)},
                           {"p99_us", Percentile(all.latencies, 0.99)},
                           {"samples", all.latencies.size()},
                           {"largest_difference", apart}};
  for (auto& [name, times] : all.times) report["server_p50_us"][name] = Percentile(times, 0.5);
  return report;
}

int Fail(const std::string& failure) {
  std::printf("%s\n", nlohmann::json{{"failure", failure}}.dump().c_str());
  return 1;
}

int Main(Options options) {
  Plan plan;
  const std::string request = ReadFile(options.request_file);
  if (request.empty()) return Fail("no request in " + options.request_file);
  const grpc::Slice slice(request);
  plan.request = grpc::ByteBuffer(&slice, 1);
  for (const std::string& field : options.time_fields) {
    const std::size_t equals = field.find('=');
    const auto path = ParseFieldPath(equals == std::string::npos ? "" : field.substr(equals + 1));
    if (!path.has_value()) return Fail("--time " + field + " is not NAME=PATH");
    plan.times[field.substr(0, equals)] = *path;
  }
  plan.options = std::move(options);
  double apart = 0;
  if (const std::string wrong = CheckFirstAnswer(plan, &apart); !wrong.empty()) return Fail(wrong);

  const auto ticks = [](double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  };
  plan.begin = Clock::now() + ticks(plan.options.warmup);
  plan.end = plan.begin + ticks(plan.options.seconds);
  std::vector<Seen> seen(static_cast<std::size_t>(plan.options.clients));
  std::vector<std::thread> threads;
  for (Seen& client : seen) threads.emplace_back(RunClient, std::cref(plan), &client);
  for (std::thread& thread : threads) thread.join();
  for (const Seen& client : seen) {
    if (!client.failure.empty()) return Fail(client.failure);
  }
  const nlohmann::json report = Report(plan, seen, apart);
  if (report["samples"] == 0) return Fail("no call began and ended within the time");
  std::printf("%s\n", report.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace headlight::bench

int main(int argc, char** argv) {
  CLI::App app{
      "Calls a method with the bytes of a file from some clients, each on a connection of its own; prints JSON."};
  headlight::bench::Options options;
  app.add_option("--address", options.address, "host:port")->required();
  app.add_option("--method", options.method, "/package.Service/Method")->required();
  app.add_option("--request", options.request_file, "file: the request as it goes on the wire")->required();
  app.add_option("--clients", options.clients, "so many at once")->capture_default_str()->check(CLI::Range(1, 64));
  app.add_option("--seconds", options.seconds, "how long time is taken; longer where calls are very long")
      ->capture_default_str();
  app.add_option("--warmup", options.warmup, "seconds of calls before that do not count")->capture_default_str();
  app.add_option("--expect", options.expect_file, "file: the float32 numbers of a right answer");
  app.add_option("--output-field", options.output_field, "path to the answer's numbers, such as 1.3");
  app.add_option("--tolerance", options.tolerance, "how far they may be apart")->capture_default_str();
  app.add_option("--time", options.time_fields, "NAME=PATH to a Duration in the answer");
  CLI11_PARSE(app, argc, argv);
  return headlight::bench::Main(std::move(options));
}
