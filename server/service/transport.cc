#include "server/service/transport.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/resource_quota.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/service/tls_credentials.h"

namespace headlight {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(500);
// Methods that ask the door themselves.
constexpr const char* kOwnMethods[] = {"/headlight.v1.", "/inference.GRPCInferenceService/ModelInfer"};

absl::Status Named(absl::string_view flag, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(flag, ": ", status.message()));
}

// Says once what became of changed files.
template <typename Value>
void Look(Reloaded<Value>* files, absl::string_view what) {
  if (files == nullptr) return;
  const absl::StatusOr<bool> taken = files->Reload();
  if (!taken.ok()) {
    spdlog::error("{} changed and cannot be used, what was before stays: {}", std::string(what),
                  std::string(taken.status().message()));
  } else if (*taken) {
    spdlog::info("{} changed and is in use", std::string(what));
  }
}

// Null where there is no such file.
absl::StatusOr<std::unique_ptr<Reloaded<TokenSet>>> LoadTokens(absl::string_view flag, const std::string& path) {
  if (path.empty()) return nullptr;
  auto loaded = Reloaded<TokenSet>::Load(
      {path}, [](const std::vector<std::string>& contents) { return TokenSet::Parse(contents.front()); });
  if (!loaded.ok()) return Named(flag, loaded.status());
  return loaded;
}

void SetCompression(bool taken, grpc::ServerBuilder* builder) {
  builder->SetDefaultCompressionAlgorithm(GRPC_COMPRESS_NONE);
  if (taken) return;
  for (const grpc_compression_algorithm algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder->SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
  // gRPC would inflate a message that it is about to refuse.
  builder->AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> Transport::Create(const TransportOptions& options) {
  std::unique_ptr<Reloaded<TlsIdentity>> identity;
  if (!options.tls_certificate.empty()) {
    std::vector<std::string> paths = {options.tls_certificate, options.tls_key};
    if (!options.tls_client_ca.empty()) paths.push_back(options.tls_client_ca);
    auto loaded = Reloaded<TlsIdentity>::Load(std::move(paths), MakeTlsIdentity);
    if (!loaded.ok()) return Named("--tls-certificate", loaded.status());
    identity = *std::move(loaded);
  }
  auto tokens = LoadTokens("--auth-token-file", options.auth_token_file);
  if (!tokens.ok()) return tokens.status();
  auto upload_tokens = LoadTokens("--upload-token-file", options.upload_token_file);
  if (!upload_tokens.ok()) return upload_tokens.status();
  const bool nobody_may = options.allow_layer_uploads && !options.auth_token_file.empty() && *upload_tokens == nullptr;
  if (nobody_may) spdlog::warn("--allow-layer-uploads: nobody may, without --upload-token-file");
  if (*upload_tokens != nullptr && !options.allow_layer_uploads) {
    spdlog::warn("--upload-token-file: nobody may change layers, without --allow-layer-uploads");
  }
  return std::unique_ptr<Transport>(
      new Transport(options, std::move(identity), *std::move(tokens), *std::move(upload_tokens)));
}

Transport::Transport(const TransportOptions& options, std::unique_ptr<Reloaded<TlsIdentity>> identity,
                     std::unique_ptr<Reloaded<TokenSet>> tokens, std::unique_ptr<Reloaded<TokenSet>> upload_tokens)
    : options_(options),
      identity_(std::move(identity)),
      tokens_(std::move(tokens)),
      upload_tokens_(std::move(upload_tokens)),
      door_(tokens_.get(), options.auth_client_names, {options.allow_layer_uploads, upload_tokens_.get()}) {
  // Before there is a builder.
  if (options.channelz) grpc::channelz::experimental::InitChannelzService();
  if (identity_ != nullptr || tokens_ != nullptr || upload_tokens_ != nullptr)
    watcher_ = std::thread([this] { Watch(); });
}

Transport::~Transport() {
  stop_.Notify();
  if (watcher_.joinable()) watcher_.join();
}

void Transport::Watch() {
  while (!stop_.WaitForNotificationWithTimeout(kLook)) {
    Look(identity_.get(), "the TLS certificate");
    Look(tokens_.get(), "the file of tokens");
    Look(upload_tokens_.get(), "the file of tokens for uploads");
  }
}

void Transport::Configure(const Limits& limits, grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(static_cast<int>(limits.max_receive_bytes));
  // Messages of streams are not bounded by what a whole answer may have.
  constexpr std::int64_t kStreamMessageBytes = std::int64_t{2} << 20;
  builder->SetMaxSendMessageSize(static_cast<int>(std::max(limits.max_response_bytes, kStreamMessageBytes)));
  // What of a call may come before it is read. gRPC's own guess, by what the line holds, grew to tens of megabytes on
  // fast ones, and streams went no faster.
  constexpr int kAheadBytes = 4 << 20;
  builder->AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kAheadBytes);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, static_cast<int>(limits.max_metadata_bytes));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(limits.max_concurrent_streams));
  const std::pair<const char*, std::int64_t> times[] = {
      {GRPC_ARG_MAX_CONNECTION_AGE_MS, limits.max_connection_age_milliseconds},
      {GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, limits.max_connection_age_grace_milliseconds},
      {GRPC_ARG_MAX_CONNECTION_IDLE_MS, limits.max_connection_idle_milliseconds},
      {GRPC_ARG_KEEPALIVE_TIME_MS, limits.keepalive_time_milliseconds},
      {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, limits.keepalive_timeout_milliseconds},
      {GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, limits.handshake_timeout_milliseconds}};
  // gRPC's largest number is "never".
  constexpr int kNever = std::numeric_limits<int>::max();
  for (const auto& [name, time] : times) {
    builder->AddChannelArgument(name, time == 0 ? kNever : static_cast<int>(std::min<std::int64_t>(time, kNever)));
  }
  // Whether or not there are calls, and however long one is silent.
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // With it, two servers on one port would share its calls at random.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, options_.reuse_port ? 1 : 0);
  builder->AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, options_.channelz ? 1 : 0);
  SetCompression(options_.compression, builder);
  grpc::ResourceQuota quota("headlight");
  quota.Resize(static_cast<std::size_t>(limits.grpc_memory_bytes));
  builder->SetResourceQuota(quota);
  if (!door_.asks()) return;
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> keepers;
  keepers.push_back(MakeDoorkeeper(door_, {std::begin(kOwnMethods), std::end(kOwnMethods)}));
  builder->experimental().SetInterceptorCreators(std::move(keepers));
}

std::shared_ptr<grpc::ServerCredentials> Transport::CredentialsFor(const std::string& address) {
  if (identity_ == nullptr || absl::StartsWith(address, "unix:")) {
    if ((tokens_ != nullptr || upload_tokens_ != nullptr) && !absl::StartsWith(address, "unix:")) {
      spdlog::warn("tokens come over {} without TLS: whoever is on the way can read them", address);
    }
    return grpc::InsecureServerCredentials();
  }
  credentials_.push_back(MakeTlsCredentials(*identity_));
  return credentials_.back();
}

double Transport::certificate_expiry() const {
  if (identity_ == nullptr) return 0;
  return absl::ToDoubleSeconds(identity_->current()->expiry - absl::UnixEpoch());
}

}  // namespace headlight
