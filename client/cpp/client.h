// A connection to a Headlight server: one method per call, errors as absl::Status with details (errors.h).
//
// The channel is set as docs/clients.md recommends. For real tensors: answers up to 256 MiB, and requests up to that
// size kept for a retry (gRPC's defaults fail beyond 4 MiB, and silently never retry beyond 256 KiB). UNAVAILABLE is
// retried by gRPC, of streams by us, up to 4 attempts; RESOURCE_EXHAUSTED likewise, but only where the server said when
// to come back, because a message that is too large carries the same code.
#ifndef HEADLIGHT_CLIENT_CPP_CLIENT_H_
#define HEADLIGHT_CLIENT_CPP_CLIENT_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cpp/streaming.h"
#include "grpc/health/v1/health.pb.h"
#include "headlight/v1/analysis_service.pb.h"
#include "headlight/v1/attention_service.pb.h"
#include "headlight/v1/layer_service.pb.h"

namespace headlight::client {

// Of a connection with TLS, 1.2 or newer. All in PEM form.
struct TlsOptions {
  std::string roots;  // who may have signed the server's certificate; empty: whom the system trusts
  // The client's own, where the server asks for one: both or neither.
  std::string certificate_chain;
  std::string private_key;
};

struct ClientOptions {
  // A gRPC target: "HOST:PORT", "unix:PATH", "dns:///NAME:PORT".
  std::string address = "127.0.0.1:50051";
  // For each call, all its attempts and the waiting between them together; above 0. InfiniteDuration: none.
  absl::Duration deadline = absl::Seconds(60);
  // How often a call is tried at most, from 1 (no retry) to 5.
  int max_attempts = 4;
  // Above 0. A larger answer is RESOURCE_EXHAUSTED; a larger request is sent, but not kept for gRPC's retry.
  int max_message_bytes = 256 << 20;
  // Turn by turn to every address of the name whose grpc.health.v1 says that AttentionService is SERVING, as for a
  // headless Service in Kubernetes; UNAVAILABLE where none does. Otherwise all calls go to the first address that
  // answers, whatever its health.
  bool spread_over_replicas = true;
  // Unset: the connection is not encrypted.
  std::optional<TlsOptions> tls = std::nullopt;
  // Goes with every call but CheckHealth as "authorization: Bearer TOKEN"; without TLS whoever is on the way can read
  // it. Empty: none.
  std::string token = {};
};

// A call under way that nobody waits for. Copies are of the same call; letting go of them does not end it.
class PendingCall {
 public:
  class Call {
   public:
    virtual ~Call() = default;
    virtual void Cancel() = 0;
  };
  explicit PendingCall(std::weak_ptr<Call> call) : call_(std::move(call)) {}

  // Ends it with CANCELLED, unless it has ended. Thread-safe.
  void Cancel() const {
    if (const std::shared_ptr<Call> call = call_.lock()) call->Cancel();
  }

 private:
  std::weak_ptr<Call> call_;
};

// Thread-safe: any number of calls at once.
class Client {
 public:
  // Does not connect yet; the first call does. INVALID_ARGUMENT: an empty address, another option that is out of its
  // range, a certificate without key or a key without certificate, a token with a character that is not printable
  // ASCII. For the whole process it switches off abseil's search for deadlocks (SetMutexDeadlockDetectionMode), which
  // Debian builds in, and which gRPC's own locks set off.
  static absl::StatusOr<std::unique_ptr<Client>> Create(const ClientOptions& options);

  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // The calls of the contract. Each blocks until the answer, an error that is not to be retried, or the deadline.
  // Errors: those of the call in the contract, UNAVAILABLE where nobody answers at the address.
  // Attend goes in chunks where NeedsStream of streaming.h says so; AttendStream always does. The answer is
  // the same. `watch`, where there is one, is told how far it is.
  absl::StatusOr<v1::AttendResponse> Attend(const v1::AttendRequest& request) const;
  absl::StatusOr<v1::AttendResponse> AttendStream(const v1::AttendRequest& request,
                                                  const WatchStream& watch = {}) const;
  // The request without data: PlanRequestOf (plan.h) makes it from an AttendRequest. What is beyond a limit is no error
  // but stands in `violations` of the answer.
  absl::StatusOr<v1::PlanAttentionResponse> PlanAttention(const v1::PlanAttentionRequest& request) const;
  absl::StatusOr<v1::CompareAlgorithmsResponse> CompareAlgorithms(const v1::CompareAlgorithmsRequest& request) const;
  // MergePartials of merge.h does the same without a server.
  absl::StatusOr<v1::MergePartialsResponse> MergePartials(const v1::MergePartialsRequest& request) const;
  absl::StatusOr<v1::GetDemoResponse> GetDemo() const;
  absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo() const;
  absl::StatusOr<v1::AblateHeadsResponse> AblateHeads(const v1::AblateHeadsRequest& request) const;
  absl::StatusOr<v1::TraceStackResponse> TraceStack(const v1::TraceStackRequest& request) const;
  absl::StatusOr<v1::AnalyzeCircuitsResponse> AnalyzeCircuits(const v1::AnalyzeCircuitsRequest& request) const;
  absl::StatusOr<v1::AnalyzeHeadsResponse> AnalyzeHeads(const v1::AnalyzeHeadsRequest& request) const;

  // The calls that compute, without waiting: `done` is called once with what the call of the same name would return, on
  // a thread of gRPC's that it must not hold up. The client may be destroyed meanwhile.
  template <typename Response>
  using Done = std::function<void(absl::StatusOr<Response>)>;
  PendingCall AttendAsync(v1::AttendRequest request, Done<v1::AttendResponse> done) const;
  PendingCall CompareAlgorithmsAsync(v1::CompareAlgorithmsRequest request,
                                     Done<v1::CompareAlgorithmsResponse> done) const;
  PendingCall MergePartialsAsync(v1::MergePartialsRequest request, Done<v1::MergePartialsResponse> done) const;
  PendingCall AnalyzeHeadsAsync(v1::AnalyzeHeadsRequest request, Done<v1::AnalyzeHeadsResponse> done) const;
  PendingCall AblateHeadsAsync(v1::AblateHeadsRequest request, Done<v1::AblateHeadsResponse> done) const;
  PendingCall AnalyzeCircuitsAsync(v1::AnalyzeCircuitsRequest request, Done<v1::AnalyzeCircuitsResponse> done) const;
  PendingCall TraceStackAsync(v1::TraceStackRequest request, Done<v1::TraceStackResponse> done) const;

  // Those of LayerService. With several replicas behind the address each call may reach another, and layers are of one.
  absl::StatusOr<v1::ListLayersResponse> ListLayers() const;
  absl::StatusOr<v1::GetLayerResponse> GetLayer(const v1::GetLayerRequest& request) const;
  absl::StatusOr<v1::DeleteLayerResponse> DeleteLayer(const v1::DeleteLayerRequest& request) const;
  absl::StatusOr<v1::PruneLayerResponse> PruneLayer(const v1::PruneLayerRequest& request) const;
  // Sends a file in chunks of 1 MiB. `read` gives its bytes from an offset on, at most so many, and an empty text at
  // the end; `sent` is told how many have been written so far. Both begin anew where the call is tried again.
  using ReadBytes = std::function<absl::StatusOr<std::string>(std::uint64_t offset, std::size_t most)>;
  absl::StatusOr<v1::UploadLayerResponse> UploadLayer(const v1::UploadLayerHeader& header, const ReadBytes& read,
                                                      const std::function<void(std::uint64_t)>& sent) const;

  // What grpc.health.v1 says of a service; "" is the server as a whole. SERVICE_UNKNOWN where the server does not know
  // it. Not retried: the answer is about now.
  absl::StatusOr<grpc::health::v1::HealthCheckResponse::ServingStatus> CheckHealth(const std::string& service) const;

 private:
  struct Stubs;
  Client(const ClientOptions& options, std::unique_ptr<Stubs> stubs);

  template <typename Response, typename Call>
  absl::StatusOr<Response> RunWithRetries(const Call& call, bool streams = false) const;
  template <typename Request, typename Response, typename Call>
  PendingCall RunAsync(Request request, Done<Response> done, const Call& call, bool streams = false) const;

  const absl::Duration deadline_;
  const int max_attempts_;
  const std::string authorization_;  // empty: none
  Stubs* const stubs_;               // calls under way hold them too
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CPP_CLIENT_H_
