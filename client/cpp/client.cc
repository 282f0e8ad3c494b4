#include "client/cpp/client.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "client/cpp/async_call.h"
#include "client/cpp/errors.h"
#include "client/cpp/retries.h"
#include "client/cpp/stream_call.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "headlight/v1/analysis_service.grpc.pb.h"
#include "headlight/v1/attention_service.grpc.pb.h"
#include "headlight/v1/layer_service.grpc.pb.h"

namespace headlight::client {
namespace {

constexpr int kMostAttempts = 5;  // gRPC takes no more

// RESOURCE_EXHAUSTED is not in the list: a retry policy cannot say "only with pushback". Attempts are the %d. Not of
// streams, which Attempts tries again: gRPC 1.51 may lose what it sends once more, and wait for ever.
constexpr char kRetries[] = R"("methodConfig": [{
  "name": [{"service": "headlight.v1.AttentionService", "method": "AttendStream"},
           {"service": "headlight.v1.LayerService", "method": "UploadLayer"}]
}, {
  "name": [{"service": "headlight.v1.AttentionService"}, {"service": "headlight.v1.LayerService"},
           {"service": "headlight.v1.AnalysisService"}],
  "retryPolicy": {"maxAttempts": %d, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
                  "retryableStatusCodes": ["UNAVAILABLE"]}
}], "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1})";

// Milliseconds, of gRPC's own 30 s: a rollout replaces every address of a name in less.
constexpr int kLeastBetweenResolutions = 1000;

// A channel checks the health of its addresses with round_robin alone.
constexpr char kReplicas[] = R"("loadBalancingConfig": [{"round_robin": {}}],
  "healthCheckConfig": {"serviceName": "headlight.v1.AttentionService"})";

std::shared_ptr<grpc::ChannelCredentials> CredentialsOf(const ClientOptions& options) {
  if (!options.tls.has_value()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = options.tls->roots;
  ssl.pem_private_key = options.tls->private_key;
  ssl.pem_cert_chain = options.tls->certificate_chain;
  return grpc::SslCredentials(ssl);
}

std::shared_ptr<grpc::Channel> MakeChannel(const ClientOptions& options, bool spread_over_replicas) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_PER_RPC_RETRY_BUFFER_SIZE, options.max_message_bytes);
  arguments.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, kLeastBetweenResolutions);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, options.max_attempts > 1 ? 1 : 0);
  // A policy for fewer than 2 attempts is none to gRPC, even where retries are off.
  const std::string retries = absl::StrFormat(kRetries, std::max(options.max_attempts, 2));
  arguments.SetServiceConfigJSON(
      absl::StrCat("{", retries, spread_over_replicas ? ", " : "", spread_over_replicas ? kReplicas : "", "}"));
  return grpc::CreateCustomChannel(options.address, CredentialsOf(options), arguments);
}

absl::Status CheckOptions(const ClientOptions& options) {
  if (options.address.empty()) return absl::InvalidArgumentError("the address is empty");
  if (options.deadline <= absl::ZeroDuration()) return absl::InvalidArgumentError("the deadline is not above 0");
  if (options.max_attempts < 1 || options.max_attempts > kMostAttempts) {
    return absl::InvalidArgumentError(absl::StrCat("max_attempts is not from 1 to ", kMostAttempts));
  }
  if (options.max_message_bytes < 1) return absl::InvalidArgumentError("max_message_bytes is not above 0");
  if (options.tls.has_value() && options.tls->certificate_chain.empty() != options.tls->private_key.empty()) {
    return absl::InvalidArgumentError("a client's certificate and its key go together");
  }
  if (!std::all_of(options.token.begin(), options.token.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError("the token has a character that is not printable ASCII");
  }
  return absl::OkStatus();
}

}  // namespace

// With the last channel that has called back, gRPC (1.51) joins the threads that it calls back on and deletes their
// queue. On one of those it would delete what it stands on, so the last call to end leaves that to another thread.
struct Client::Stubs {
  std::unique_ptr<v1::AttentionService::Stub> attention;
  std::unique_ptr<v1::AnalysisService::Stub> analysis;
  std::unique_ptr<v1::LayerService::Stub> layers;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
  std::atomic<int> holders = 1;  // the client and its calls that nobody waits for

  // For such a call, which keeps it as long as anything of a channel.
  std::shared_ptr<Stubs> HoldForCall() {
    ++holders;
    return {this, [](Stubs* stubs) {
              if (--stubs->holders == 0) std::thread([stubs] { delete stubs; }).detach();
            }};
  }
};

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const ClientOptions& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  // Debian's abseil looks for cycles at every lock and ends the process where it believes to see one: in gRPC 1.51,
  // whose locks are made and destroyed with channels, it does so now and then.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  auto stubs = std::make_unique<Stubs>();
  const std::shared_ptr<grpc::Channel> plain = MakeChannel(options, /*spread_over_replicas=*/false);
  // A channel that shuns whoever is not serving could not ask it how it is.
  stubs->health = grpc::health::v1::Health::NewStub(plain);
  const std::shared_ptr<grpc::Channel> spread =
      options.spread_over_replicas ? MakeChannel(options, /*spread_over_replicas=*/true) : plain;
  stubs->attention = v1::AttentionService::NewStub(spread);
  stubs->analysis = v1::AnalysisService::NewStub(spread);
  stubs->layers = v1::LayerService::NewStub(spread);
  return std::unique_ptr<Client>(new Client(options, std::move(stubs)));
}

Client::Client(const ClientOptions& options, std::unique_ptr<Stubs> stubs)
    : deadline_(options.deadline),
      max_attempts_(options.max_attempts),
      authorization_(options.token.empty() ? "" : absl::StrCat("Bearer ", options.token)),
      stubs_(stubs.release()) {}

Client::~Client() {
  if (--stubs_->holders == 0) delete stubs_;
}

// Runs `call(context, response)` until it succeeds, fails for good or the deadline leaves no room for another attempt.
template <typename Response, typename Call>
absl::StatusOr<Response> Client::RunWithRetries(const Call& call, bool streams) const {
  for (Attempts attempts(max_attempts_, absl::Now() + deadline_, authorization_, streams);;) {
    const std::unique_ptr<grpc::ClientContext> context = attempts.Next();
    Response response;
    const grpc::Status outcome = call(context.get(), &response);
    if (outcome.ok()) return response;
    const absl::Status status = StatusFromGrpc(outcome, context->GetServerTrailingMetadata());
    const std::optional<absl::Duration> delay = attempts.DelayAfter(status);
    if (!delay.has_value()) return status;
    absl::SleepFor(*delay);
  }
}

// Likewise of `call(stubs, context, request, response, done)`, which does not wait.
template <typename Request, typename Response, typename Call>
PendingCall Client::RunAsync(Request request, Done<Response> done, const Call& call, bool streams) const {
  const auto begin = [stubs = stubs_->HoldForCall(), call](grpc::ClientContext* context, const Request* asked,
                                                           Response* response,
                                                           std::function<void(grpc::Status)> ended) {
    call(*stubs, context, asked, response, std::move(ended));
  };
  Attempts attempts(max_attempts_, absl::Now() + deadline_, authorization_, streams);
  const auto pending =
      std::make_shared<AsyncCall<Request, Response>>(std::move(attempts), std::move(request), begin, std::move(done));
  pending->Try();
  return PendingCall(pending);
}

absl::StatusOr<v1::AttendResponse> Client::AttendStream(const v1::AttendRequest& request,
                                                        const WatchStream& watch) const {
  const auto call = [&](grpc::ClientContext* context, v1::AttendResponse* response) {
    grpc::Status outcome;
    absl::Notification done;
    BeginStream(*stubs_->attention, context, &request, response, watch, [&](grpc::Status status) {
      outcome = std::move(status);
      done.Notify();
    });
    done.WaitForNotification();
    return outcome;
  };
  return RunWithRetries<v1::AttendResponse>(call, /*streams=*/true);
}

absl::StatusOr<v1::AttendResponse> Client::Attend(const v1::AttendRequest& request) const {
  if (NeedsStream(request)) return AttendStream(request);
  return RunWithRetries<v1::AttendResponse>([&](grpc::ClientContext* context, v1::AttendResponse* response) {
    return stubs_->attention->Attend(context, request, response);
  });
}

absl::StatusOr<v1::PlanAttentionResponse> Client::PlanAttention(const v1::PlanAttentionRequest& request) const {
  return RunWithRetries<v1::PlanAttentionResponse>(
      [&](grpc::ClientContext* context, v1::PlanAttentionResponse* response) {
        return stubs_->attention->PlanAttention(context, request, response);
      });
}

absl::StatusOr<v1::CompareAlgorithmsResponse> Client::CompareAlgorithms(
    const v1::CompareAlgorithmsRequest& request) const {
  return RunWithRetries<v1::CompareAlgorithmsResponse>(
      [&](grpc::ClientContext* context, v1::CompareAlgorithmsResponse* response) {
        return stubs_->attention->CompareAlgorithms(context, request, response);
      });
}

absl::StatusOr<v1::MergePartialsResponse> Client::MergePartials(const v1::MergePartialsRequest& request) const {
  return RunWithRetries<v1::MergePartialsResponse>(
      [&](grpc::ClientContext* context, v1::MergePartialsResponse* response) {
        return stubs_->attention->MergePartials(context, request, response);
      });
}

absl::StatusOr<v1::GetDemoResponse> Client::GetDemo() const {
  return RunWithRetries<v1::GetDemoResponse>([&](grpc::ClientContext* context, v1::GetDemoResponse* response) {
    return stubs_->attention->GetDemo(context, {}, response);
  });
}

absl::StatusOr<v1::GetServerInfoResponse> Client::GetServerInfo() const {
  return RunWithRetries<v1::GetServerInfoResponse>(
      [&](grpc::ClientContext* context, v1::GetServerInfoResponse* response) {
        return stubs_->attention->GetServerInfo(context, {}, response);
      });
}

absl::StatusOr<v1::AnalyzeHeadsResponse> Client::AnalyzeHeads(const v1::AnalyzeHeadsRequest& request) const {
  return RunWithRetries<v1::AnalyzeHeadsResponse>(
      [&](grpc::ClientContext* context, v1::AnalyzeHeadsResponse* response) {
        return stubs_->analysis->AnalyzeHeads(context, request, response);
      });
}

absl::StatusOr<v1::AblateHeadsResponse> Client::AblateHeads(const v1::AblateHeadsRequest& request) const {
  return RunWithRetries<v1::AblateHeadsResponse>([&](grpc::ClientContext* context, v1::AblateHeadsResponse* response) {
    return stubs_->analysis->AblateHeads(context, request, response);
  });
}

absl::StatusOr<v1::AnalyzeCircuitsResponse> Client::AnalyzeCircuits(const v1::AnalyzeCircuitsRequest& request) const {
  return RunWithRetries<v1::AnalyzeCircuitsResponse>(
      [&](grpc::ClientContext* context, v1::AnalyzeCircuitsResponse* response) {
        return stubs_->analysis->AnalyzeCircuits(context, request, response);
      });
}

absl::StatusOr<v1::TraceStackResponse> Client::TraceStack(const v1::TraceStackRequest& request) const {
  return RunWithRetries<v1::TraceStackResponse>([&](grpc::ClientContext* context, v1::TraceStackResponse* response) {
    return stubs_->analysis->TraceStack(context, request, response);
  });
}

PendingCall Client::AttendAsync(v1::AttendRequest request, Done<v1::AttendResponse> done) const {
  const bool streams = NeedsStream(request);
  return RunAsync<v1::AttendRequest, v1::AttendResponse>(
      std::move(request), std::move(done),
      [streams](Stubs& stubs, grpc::ClientContext* context, const v1::AttendRequest* asked,
                v1::AttendResponse* response, std::function<void(grpc::Status)> ended) {
        if (streams) return BeginStream(*stubs.attention, context, asked, response, /*watch=*/{}, std::move(ended));
        stubs.attention->async()->Attend(context, asked, response, std::move(ended));
      },
      streams);
}

PendingCall Client::CompareAlgorithmsAsync(v1::CompareAlgorithmsRequest request,
                                           Done<v1::CompareAlgorithmsResponse> done) const {
  return RunAsync<v1::CompareAlgorithmsRequest, v1::CompareAlgorithmsResponse>(
      std::move(request), std::move(done), [](Stubs& stubs, auto&&... rest) {
        stubs.attention->async()->CompareAlgorithms(std::forward<decltype(rest)>(rest)...);
      });
}

PendingCall Client::MergePartialsAsync(v1::MergePartialsRequest request, Done<v1::MergePartialsResponse> done) const {
  return RunAsync<v1::MergePartialsRequest, v1::MergePartialsResponse>(
      std::move(request), std::move(done), [](Stubs& stubs, auto&&... rest) {
        stubs.attention->async()->MergePartials(std::forward<decltype(rest)>(rest)...);
      });
}

PendingCall Client::AnalyzeHeadsAsync(v1::AnalyzeHeadsRequest request, Done<v1::AnalyzeHeadsResponse> done) const {
  return RunAsync<v1::AnalyzeHeadsRequest, v1::AnalyzeHeadsResponse>(
      std::move(request), std::move(done), [](Stubs& stubs, auto&&... rest) {
        stubs.analysis->async()->AnalyzeHeads(std::forward<decltype(rest)>(rest)...);
      });
}

PendingCall Client::AblateHeadsAsync(v1::AblateHeadsRequest request, Done<v1::AblateHeadsResponse> done) const {
  return RunAsync<v1::AblateHeadsRequest, v1::AblateHeadsResponse>(
      std::move(request), std::move(done), [](Stubs& stubs, auto&&... rest) {
        stubs.analysis->async()->AblateHeads(std::forward<decltype(rest)>(rest)...);
      });
}

PendingCall Client::AnalyzeCircuitsAsync(v1::AnalyzeCircuitsRequest request,
                                         Done<v1::AnalyzeCircuitsResponse> done) const {
  return RunAsync<v1::AnalyzeCircuitsRequest, v1::AnalyzeCircuitsResponse>(
      std::move(request), std::move(done), [](Stubs& stubs, auto&&... rest) {
        stubs.analysis->async()->AnalyzeCircuits(std::forward<decltype(rest)>(rest)...);
      });
}

PendingCall Client::TraceStackAsync(v1::TraceStackRequest request, Done<v1::TraceStackResponse> done) const {
  return RunAsync<v1::TraceStackRequest, v1::TraceStackResponse>(
      std::move(request), std::move(done),
      [](Stubs& stubs, auto&&... rest) { stubs.analysis->async()->TraceStack(std::forward<decltype(rest)>(rest)...); });
}

absl::StatusOr<v1::ListLayersResponse> Client::ListLayers() const {
  return RunWithRetries<v1::ListLayersResponse>([&](grpc::ClientContext* context, v1::ListLayersResponse* response) {
    return stubs_->layers->ListLayers(context, {}, response);
  });
}

absl::StatusOr<v1::GetLayerResponse> Client::GetLayer(const v1::GetLayerRequest& request) const {
  return RunWithRetries<v1::GetLayerResponse>([&](grpc::ClientContext* context, v1::GetLayerResponse* response) {
    return stubs_->layers->GetLayer(context, request, response);
  });
}

absl::StatusOr<v1::DeleteLayerResponse> Client::DeleteLayer(const v1::DeleteLayerRequest& request) const {
  return RunWithRetries<v1::DeleteLayerResponse>([&](grpc::ClientContext* context, v1::DeleteLayerResponse* response) {
    return stubs_->layers->DeleteLayer(context, request, response);
  });
}

absl::StatusOr<v1::PruneLayerResponse> Client::PruneLayer(const v1::PruneLayerRequest& request) const {
  return RunWithRetries<v1::PruneLayerResponse>([&](grpc::ClientContext* context, v1::PruneLayerResponse* response) {
    return stubs_->layers->PruneLayer(context, request, response);
  });
}

absl::StatusOr<v1::UploadLayerResponse> Client::UploadLayer(const v1::UploadLayerHeader& header, const ReadBytes& read,
                                                            const std::function<void(std::uint64_t)>& sent) const {
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  absl::Status unread;
  const auto call = [&](grpc::ClientContext* context, v1::UploadLayerResponse* response) {
    unread = absl::OkStatus();
    const auto writer = stubs_->layers->UploadLayer(context, response);
    v1::UploadLayerRequest message;
    *message.mutable_header() = header;
    std::uint64_t bytes = 0;
    // A write that fails says that the server has ended the call: why, Finish tells.
    while (writer->Write(message)) {
      sent(bytes);
      absl::StatusOr<std::string> chunk = read(bytes, kChunk);
      if (!chunk.ok()) {
        unread = chunk.status();
        context->TryCancel();
      }
      if (!unread.ok() || chunk->empty()) break;
      bytes += chunk->size();
      message.set_chunk(*std::move(chunk));
    }
    writer->WritesDone();
    return writer->Finish();
  };
  auto answer = RunWithRetries<v1::UploadLayerResponse>(call, /*streams=*/true);
  if (!unread.ok()) return unread;
  return answer;
}

absl::StatusOr<grpc::health::v1::HealthCheckResponse::ServingStatus> Client::CheckHealth(
    const std::string& service) const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + deadline_));
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status outcome = stubs_->health->Check(&context, request, &response);
  if (outcome.error_code() == grpc::StatusCode::NOT_FOUND) {
    return grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN;
  }
  if (!outcome.ok()) return StatusFromGrpc(outcome, context.GetServerTrailingMetadata());
  return response.status();
}

}  // namespace headlight::client
