#include "server/service/server.h"

#include <google/protobuf/message.h>
#include <grpc/health/v1/health.pb.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/admission/memory_watch.h"
#include "server/base/host_port.h"
#include "server/base/memory.h"
#include "server/faults/fault.h"
#include "server/host/cgroup.h"
#include "server/host/descriptors.h"
#include "server/host/threads.h"
#include "server/kernels/cpu_target.h"
#include "server/layers/load.h"
#include "server/service/analysis_service.h"
#include "server/service/attention_service.h"
#include "server/service/encode.h"
#include "server/service/inference_service.h"
#include "server/service/layer_service.h"
#include "server/service/logging.h"
#include "server/service/reflection_service.h"
#include "server/service/signals.h"
#include "server/service/status_page.h"
#include "server/service/web_port.h"
#include "server/web/admin_server.h"

namespace headlight {
namespace {

constexpr int kCutOff = 3;  // exit code where calls were cut off
// Beside the workers: the log's, the memory watch's, the ports' and gRPC's, which aborts where it gets none.
constexpr int kOtherThreads = 16;
constexpr char kServiceName[] = "headlight.v1.AttentionService";
constexpr absl::Duration kDrainPoll = absl::Milliseconds(5);
// How long answers that are complete may take to leave before streams that never end are cut.
constexpr absl::Duration kLastBytes = absl::Seconds(1);
// gRPC's buffers where there is next to no memory: enough for health and small calls.
constexpr std::int64_t kLeastBuffers = std::int64_t{4} << 20;
// What is left of the memory, as parts of which one is for the buffers: gRPC 1.51 has been seen to take six times what
// it was given.
constexpr std::int64_t kBufferShare = 8;
// A step takes milliseconds. Probes that ask every 10 s see within half a minute that a worker hangs.
constexpr absl::Duration kHangs = absl::Seconds(15);

// What reflection lists.
std::vector<std::string> Services() {
  return {v1::AttentionService::service_full_name(),
          v1::LayerService::service_full_name(),
          v1::AnalysisService::service_full_name(),
          inference::GRPCInferenceService::service_full_name(),
          "grpc.health.v1.Health",
          "grpc.reflection.v1.ServerReflection",
          "grpc.reflection.v1alpha.ServerReflection"};
}

bool IsUnixSocket(const std::string& address) { return address.rfind("unix:", 0) == 0; }

// Whether somebody listens on this unix socket: gRPC would take it away from them without a word.
bool AnswersAt(const std::string& address) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  const std::string path = address.substr(5);
  if (path.size() >= sizeof(to.sun_path)) return false;
  path.copy(to.sun_path, path.size());
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return false;
  const bool answers = connect(probe, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0 || errno == EAGAIN;
  close(probe);
  return answers;
}

// Takes out what the reflection library puts into every builder from the moment it is loaded.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(),
                                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; }),
                   plugins->end());
  }
};

// Ends the process should it not have ended by itself by then: a call may hang, and gRPC 1.51 may wait up to 10 seconds
// for a poller of its own.
void EndWithin(absl::Duration limit, int code) {
  std::thread([limit, code] {
    absl::SleepFor(limit);
    std::_Exit(code);
  }).detach();
}

// Everything that lives as long as the server, in the order in which it is needed.
class Process {
 public:
  Process(ServerOptions options, Transport& transport, const LogCounts& log_counts)
      : options_(std::move(options)),
        transport_(transport),
        log_counts_(log_counts),
        pool_(options_.threads > 0 ? options_.threads : ComputeThreads()),
        admission_(MakeAdmission(), &memory_),
        metrics_(MakeBuildInfo(), options_.limits, MakeSources()),
        service_(shared_, transport.door()),
        layer_service_(shared_, transport.door()),
        analysis_service_(shared_, transport.door()),
        inference_service_(shared_, transport.door(), [this] { return ready_.load(); }) {}

  absl::Status Start();
  // Tells everybody, waits for what was accepted. True: nothing was cut off.
  bool Drain();

 private:
  static BuildInfo MakeBuildInfo() {
    return {HEADLIGHT_VERSION, std::string(NameOf(ActiveCpuTarget())), MatmulLibraryVersion(), grpc::Version()};
  }
  AdmissionOptions MakeAdmission() {
    AdmissionOptions admission;
    admission.workers = pool_.workers();
    admission.max_wait_seconds = options_.max_wait_seconds;
    admission.max_call_seconds = options_.max_call_seconds;
    admission.max_calls = options_.limits.max_calls;
    admission.memory_budget_bytes = options_.limits.max_memory_bytes;
    admission.decided = [this](Decision decision) { metrics_.Decided(decision); };
    admission.aborted = &aborted_;
    return admission;
  }
  MetricSources MakeSources() {
    MetricSources sources;
    sources.calls = [this] { return admission_.calls(); };
    sources.backlog_seconds = [this] { return admission_.backlog_seconds(); };
    sources.reserved_bytes = [this] { return admission_.reserved_bytes(); };
    sources.max_calls = admission_.options().max_calls;
    sources.max_wait_seconds = admission_.options().max_wait_seconds;
    sources.memory_budget_bytes = admission_.options().memory_budget_bytes;
    sources.memory = &memory_;
    sources.log = &log_counts_;
    sources.workers = [this] { return pool_.workers(); };
    sources.workers_busy = [this] { return pool_.busy(); };
    sources.worker_busy_seconds = [this] { return pool_.busy_seconds(); };
    sources.layers = [this] { return static_cast<std::int64_t>(layers_.layers().size()); };
    sources.layer_bytes = [this] { return layers_.bytes(); };
    sources.ready = [this] { return ready_.load(); };
    sources.draining = [this] { return draining_.load(); };
    sources.tls_certificate_expiry = [this] { return transport_.certificate_expiry(); };
    return sources;
  }

  MemoryReading LookAtHost();
  absl::Status StartGrpc();
  absl::Status StartHttp();
  absl::Status StartWeb();
  absl::Status LoadLayers();
  void SetReady(bool ready);
  absl::Status RunOwn(const v1::AttendRequest& request, AttendCall& call);
  void WarmUp();
  // What clients reach, by name: "grpc=HOST:PORT http=HOST:PORT web=HOST:PORT also=...".
  std::string Addresses() const;
  StatusFacts Facts() const;

  const ServerOptions options_;
  Transport& transport_;
  const LogCounts& log_counts_;
  const absl::Time started_ = absl::Now();
  MemoryLedger memory_;
  MatmulCache matmuls_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> draining_{false};
  std::atomic<bool> listening_{false};  // what Addresses reads is there
  std::atomic<std::int64_t> open_calls_{0};
  std::atomic<bool> aborted_{false};
  ComputePool pool_;
  Admission admission_;
  Metrics metrics_;
  CallLog call_log_{options_.log_calls_per_second, LogCall};
  DescriptorWatch descriptors_;
  MemoryWatch memory_watch_{{[this] { return LookAtHost(); }, [] { return ResidentBytes(); }, [] { malloc_trim(0); }},
                            admission_};
  LayerStore layers_;
  Shared shared_{options_.limits, pool_, matmuls_, memory_, metrics_, call_log_, admission_, layers_, open_calls_};
  AttentionService service_;
  LayerService layer_service_;
  AnalysisService analysis_service_;
  InferenceService inference_service_;
  std::unique_ptr<grpc::Service> reflection_service_;  // v1's; gRPC's own is a plugin
  std::unique_ptr<AdminServer> admin_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<WebServer> web_;
  std::vector<int> ports_;
};

MemoryReading Process::LookAtHost() {
  if (descriptors_.Look()) {
    spdlog::error("no descriptor is left: gRPC takes no new connections any more, and /livez fails; raise ulimit -Hn");
  }
  return ReadMemory();
}

absl::Status Process::StartHttp() {
  if (options_.http.empty()) return absl::OkStatus();
  const absl::StatusOr<HostPort> address = ParseHostPort(options_.http);
  if (!address.ok()) return absl::InvalidArgumentError(absl::StrCat("--http: ", address.status().message()));
  AdminPages pages;
  pages.metrics = [this] { return metrics_.Expose(); };
  pages.status = [this] { return StatusPage(Facts(), metrics_, options_.limits); };
  pages.live = [this] {
    if (descriptors_.ran_out()) return absl::UnavailableError("descriptors ran out: no new connections are taken");
    if (pool_.longest_step() < kHangs) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("a worker has been at one step for ", absl::FormatDuration(kHangs)));
  };
  pages.ready = [this] {
    if (ready_.load()) return absl::OkStatus();
    return absl::UnavailableError(draining_.load() ? "draining" : "warming up");
  };
  absl::StatusOr<std::unique_ptr<AdminServer>> admin = AdminServer::Start(*address, std::move(pages));
  if (!admin.ok()) return absl::UnavailableError(absl::StrCat("--http: ", admin.status().message()));
  admin_ = *std::move(admin);
  return absl::OkStatus();
}

absl::Status Process::StartGrpc() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  // gRPC answers health by itself, without the descriptor that reflection tells.
  google::protobuf::LinkMessageReflection<grpc::health::v1::HealthCheckRequest>();
  grpc::ServerBuilder builder;
  if (!options_.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  ports_.assign(options_.listen.size(), 0);
  for (std::size_t i = 0; i < options_.listen.size(); ++i) {
    // Without a port gRPC would take 443.
    const absl::StatusOr<HostPort> address = ParseHostPort(options_.listen[i]);
    if (!IsUnixSocket(options_.listen[i]) && !address.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--listen: ", address.status().message()));
    }
    if (IsUnixSocket(options_.listen[i]) && AnswersAt(options_.listen[i])) {
      return absl::UnavailableError(absl::StrCat("--listen: cannot listen on ", options_.listen[i], ": in use"));
    }
    builder.AddListeningPort(options_.listen[i], transport_.CredentialsFor(options_.listen[i]), &ports_[i]);
  }
  transport_.Configure(options_.limits, &builder);
  builder.RegisterService(&service_);
  builder.RegisterService(&layer_service_);
  builder.RegisterService(&analysis_service_);
  builder.RegisterService(&inference_service_);
  if (options_.reflection) reflection_service_ = MakeReflectionService(Services());
  if (reflection_service_ != nullptr) builder.RegisterService(reflection_service_.get());
  grpc_ = builder.BuildAndStart();
  // Up to the first that it cannot listen on, gRPC has set the ports; a unix socket has 1.
  const auto failed = std::find(ports_.begin(), ports_.end(), 0);
  if (grpc_ != nullptr && failed == ports_.end()) return absl::OkStatus();
  const auto at = static_cast<std::size_t>(std::min(failed, ports_.end() - 1) - ports_.begin());
  return absl::UnavailableError(
      absl::StrCat("--listen: cannot listen on ", options_.listen[at], ": in use, or no such address"));
}

absl::Status Process::StartWeb() {
  if (options_.web.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<WebServer>> web = StartWebPort(options_, transport_, *grpc_);
  if (!web.ok()) return web.status();
  web_ = *std::move(web);
  return absl::OkStatus();
}

void Process::SetReady(bool ready) {
  ready_.store(ready);
  grpc_->GetHealthCheckService()->SetServingStatus(ready);
  grpc_->GetHealthCheckService()->SetServingStatus(kServiceName, ready);
}

// Runs a call of the server's own.
absl::Status Process::RunOwn(const v1::AttendRequest& request, AttendCall& call) {
  absl::Status status = call.Accept(request, absl::InfiniteFuture());
  if (!status.ok()) return status;
  absl::Notification ended;
  call.Compute([&](const absl::Status& computed) {
    status = computed;
    ended.Notify();
  });
  ended.WaitForNotification();
  return status;
}

// The first call of a process pays for oneDNN's code generation: let it not be a user's. And what calls take here is
// learned, so that admission knows it from the first: of long ones before short ones, whose rate would be taken for
// theirs.
void Process::WarmUp() {
  struct Shape {
    std::int64_t tokens;
    v1::Algorithm algorithm;
    v1::ComputePrecision precision;
  };
  constexpr v1::ComputePrecision kFloat = v1::COMPUTE_PRECISION_FLOAT32;
  for (const Shape& shape :
       {Shape{512, v1::ALGORITHM_FLASH, kFloat}, Shape{512, v1::ALGORITHM_FLASH, v1::COMPUTE_PRECISION_BFLOAT16},
        Shape{256, v1::ALGORITHM_NAIVE, kFloat}, Shape{128, v1::ALGORITHM_FLASH, kFloat}}) {
    malloc_trim(0);  // what the larger shapes before needed; a short call's memory is kept for the first one
    v1::AttendRequest request;
    v1::SelfAttention* input = request.mutable_self_attention();
    input->mutable_seeded_embeddings()->set_tokens(shape.tokens);
    input->mutable_seeded_embeddings()->set_width(256);
    input->mutable_seeded_weights();
    request.mutable_options()->set_query_heads(4);
    request.mutable_options()->set_head_size(64);
    request.mutable_options()->set_algorithm(shape.algorithm);
    request.mutable_options()->set_precision(shape.precision);
    double fastest = std::numeric_limits<double>::infinity();
    CallCost cost;
    for (int i = 0; i < 3; ++i) {
      if (EndSignalPending()) return;
      HEADLIGHT_FAULT("warm_up");
      AttendCall call(shared_);
      if (const absl::Status status = RunOwn(request, call); !status.ok()) {
        spdlog::warn("warm-up: {}", std::string(status.message()));
        break;
      }
      fastest = std::min(fastest, call.control()->worker_seconds());
      cost = call.cost();
    }
    if (std::isfinite(fastest)) admission_.model().Learn(cost, fastest);
  }
}

std::string Process::Addresses() const {
  const auto real = [](const std::string& address, int port) {
    const absl::StatusOr<HostPort> parsed = ParseHostPort(address);
    return parsed.ok() ? ToString(HostPort{parsed->host, port}) : address;
  };
  std::string line = absl::StrCat("grpc=", real(options_.listen[0], ports_[0]));
  if (admin_ != nullptr) absl::StrAppend(&line, " http=", real(options_.http, admin_->port()));
  if (web_ != nullptr) absl::StrAppend(&line, " web=", real(options_.web, web_->port()));
  for (std::size_t i = 1; i < options_.listen.size(); ++i) {
    absl::StrAppend(&line, i == 1 ? " also=" : ",", real(options_.listen[i], ports_[i]));
  }
  return line;
}

StatusFacts Process::Facts() const {
  return {HEADLIGHT_VERSION,        std::string(NameOf(ActiveCpuTarget())),
          LibraryVersions(),        listening_.load() ? Addresses() : "not yet",
          transport_.door().asks(), started_};
}

absl::Status Process::LoadLayers() {
  if (options_.layers.empty()) return absl::OkStatus();
  const std::size_t built_in = layers_.layers().size();
  const absl::Status loaded = LoadFolder(
      options_.layers, options_.limits, [this](std::int64_t bytes) { return admission_.Hold(bytes, "layers"); },
      layers_);
  if (!loaded.ok()) return absl::Status(loaded.code(), absl::StrCat("--layers: ", loaded.message()));
  spdlog::info("{} layers from {}", layers_.layers().size() - built_in, options_.layers);
  // With less than a quarter of the budget left, calls would be refused one after the other.
  const std::int64_t budget = admission_.options().memory_budget_bytes;
  if (admission_.reserved_bytes() > budget / 4 * 3) {
    return absl::InvalidArgumentError(absl::StrCat("--layers: they hold ", admission_.reserved_bytes(),
                                                   " bytes of the ", budget,
                                                   " of --memory-budget-bytes; calls need a quarter"));
  }
  return absl::OkStatus();
}

absl::Status Process::Start() {
  if (absl::Status status = LoadLayers(); !status.ok()) return status;
  if (absl::Status status = StartHttp(); !status.ok()) return status;
  if (absl::Status status = StartGrpc(); !status.ok()) return status;
  grpc_->GetHealthCheckService()->SetServingStatus(false);
  if (absl::Status status = StartWeb(); !status.ok()) return status;
  WarmUp();
  if (EndSignalPending()) return absl::OkStatus();  // told to end before it was ready
  admission_.Open();
  SetReady(true);
  spdlog::info("headlight {} serves with {} workers on {}", HEADLIGHT_VERSION, pool_.workers(),
               std::string(NameOf(ActiveCpuTarget())));
  listening_.store(true);
  std::printf("ready %s\n", Addresses().c_str());
  std::fflush(stdout);
  return absl::OkStatus();
}

bool Process::Drain() {
  draining_.store(true);
  SetReady(false);
  spdlog::info("draining: {} calls under way", open_calls_.load());
  absl::SleepFor(absl::Seconds(options_.drain_delay_seconds));
  admission_.Close();
  // gRPC's own shutdown would wait for streams of health and reflection as well, which load balancers keep for ever.
  const double timeout =
      options_.drain_timeout_seconds > 0 ? options_.drain_timeout_seconds : options_.max_call_seconds + 5;
  const absl::Time deadline = absl::Now() + absl::Seconds(timeout);
  while (open_calls_.load() > 0 && absl::Now() < deadline) absl::SleepFor(kDrainPoll);
  const bool clean = open_calls_.load() == 0;
  // A call that hangs would keep gRPC's shutdown and the workers for ever.
  EndWithin(3 * kLastBytes, clean ? 0 : kCutOff);
  // What is cut off is told so, as long as it does not take long.
  aborted_.store(true);
  for (const absl::Time end = absl::Now() + kLastBytes; open_calls_.load() > 0 && absl::Now() < end;) {
    absl::SleepFor(kDrainPoll);
  }
  if (web_ != nullptr) web_->Stop();  // once its answers have left
  grpc_->Shutdown(absl::ToChronoTime(absl::Now() + (clean ? kLastBytes : absl::ZeroDuration())));
  if (admin_ != nullptr) admin_->Stop();
  spdlog::info(clean ? "drained" : "drain timeout: calls were cut off");
  return clean;
}

// With the limits that follow from other options and from the machine.
ServerOptions Resolved(ServerOptions options) {
  Limits& limits = options.limits;
  TransportOptions& transport = options.transport;
  std::optional<double>& grace = transport.max_connection_age_grace_seconds;
  if (!grace.has_value()) grace = options.max_call_seconds + 5;
  const auto milliseconds = [](double seconds) { return static_cast<std::int64_t>(std::ceil(seconds * 1000)); };
  limits.max_call_milliseconds = milliseconds(options.max_call_seconds);
  limits.max_wait_milliseconds = milliseconds(options.max_wait_seconds);
  limits.max_stream_idle_milliseconds = milliseconds(options.max_stream_idle_seconds);
  limits.max_connection_age_milliseconds = milliseconds(transport.max_connection_age_seconds);
  limits.max_connection_age_grace_milliseconds = milliseconds(*grace);
  limits.max_connection_idle_milliseconds = milliseconds(transport.max_connection_idle_seconds);
  limits.keepalive_time_milliseconds = milliseconds(transport.keepalive_time_seconds);
  limits.keepalive_timeout_milliseconds = milliseconds(transport.keepalive_timeout_seconds);
  limits.handshake_timeout_milliseconds = milliseconds(transport.handshake_timeout_seconds);
  const MemoryReading memory = ReadMemory();
  std::int64_t& buffers = transport.grpc_memory_bytes;
  if (memory.limit_bytes > 0) {
    const std::int64_t left = std::max<std::int64_t>(memory.limit_bytes - memory.used_bytes, 0);
    buffers = std::max(std::min(buffers, left / kBufferShare), kLeastBuffers);
  }
  limits.grpc_memory_bytes = buffers;
  if (limits.max_memory_bytes == 0) limits.max_memory_bytes = MemoryBudget(memory, buffers);
  return options;
}

// From the log's beginning to its end.
int Serve(const ServerOptions& options, LogCounts& log_counts) {
  // Forced even where it is the best anyway: it caps oneDNN too, and one name means one set of bits.
  const std::string target = options.cpu_target.empty() ? std::string(NameOf(ActiveCpuTarget())) : options.cpu_target;
  if (const absl::Status forced = ForceCpuTarget(target); !forced.ok()) {
    spdlog::critical("--cpu-target: {}", std::string(forced.message()));
    return 1;
  }
  const ServerOptions resolved = Resolved(options);
  const absl::StatusOr<std::unique_ptr<Transport>> transport = Transport::Create(resolved.transport);
  if (!transport.ok()) {
    spdlog::critical("{}", std::string(transport.status().message()));
    return 1;
  }
  Process process(resolved, **transport, log_counts);
  if (const absl::Status status = process.Start(); !status.ok()) {
    spdlog::critical("{}", std::string(status.message()));
    return 1;
  }
  WaitForEndSignal();
  return process.Drain() ? 0 : kCutOff;
}

}  // namespace

int RunServer(const ServerOptions& options) {
  const MemoryReading memory = ReadMemory();
  KeepFreedMemory(memory.limit_bytes);
  // Debian's abseil looks for cycles of locks at every lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  BlockSignals();
  const int workers = options.threads > 0 ? options.threads : ComputeThreads();
  if (const absl::Status status = TryThreads(workers + kOtherThreads); !status.ok()) {
    std::fprintf(stderr, "headlight-server: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  static LogCounts log_counts;
  SetUpLog(options.log_level, log_counts);
  RaiseDescriptorLimit();
  const int code = Serve(options, log_counts);
  // What nobody reads holds nobody up.
  if (!EndLog(absl::Seconds(1))) std::_Exit(code);
  return code;
}

}  // namespace headlight
