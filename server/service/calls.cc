#include "server/service/calls.h"

#include <grpc/support/time.h>

#include "absl/strings/str_cat.h"
#include "server/service/call_identity.h"

namespace headlight {
namespace {

absl::string_view MetadataOf(const grpc::ServerContextBase& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  return found == context.client_metadata().end() ? absl::string_view()
                                                  : absl::string_view(found->second.data(), found->second.size());
}

}  // namespace

// gRPC's own conversion overflows for deadlines beyond the year 2262, which clients do send.
absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  constexpr std::int64_t kFar = 9'000'000'000;  // seconds since 1970
  const gpr_timespec raw = gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_REALTIME);
  if (raw.tv_sec >= kFar) return absl::InfiniteFuture();
  return absl::FromUnixSeconds(raw.tv_sec) + absl::Nanoseconds(raw.tv_nsec);
}

CallWatch::CallWatch(const Arrival& arrival, const google::protobuf::Message& request,
                     const google::protobuf::Message& response)
    : shared_(arrival.shared),
      context_(arrival.context),
      method_(arrival.method),
      request_(request),
      response_(response) {
  shared_.metrics.CallStarted(method_);
  request_id_ = RequestIdFrom(MetadataOf(*arrival.context, "x-request-id"));
  traceparent_ = TraceparentFrom(MetadataOf(*arrival.context, "traceparent"));
}

// A failure is its trailers alone: gRPC's clients never try a call again of which they have seen headers (gRFC A6).
void CallWatch::AddMetadata(const absl::Status& status) const {
  if (status.ok() && !greeted_) return context_->AddInitialMetadata("x-request-id", request_id_);
  if (!greeted_) context_->AddTrailingMetadata("x-request-id", request_id_);
  // What gRPC's own retries go by; RetryInfo says the same to people.
  const double retry_after = DetailsOf(status).retry_after_seconds;
  if (retry_after > 0) {
    context_->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(static_cast<int>(retry_after * 1000)));
  }
}

void CallWatch::Greet() {
  context_->AddInitialMetadata("x-request-id", request_id_);
  greeted_ = true;
}

void CallWatch::Finish(const absl::Status& status, absl::FunctionRef<void(CallRecord*)> describe) {
  AddMetadata(status);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - began_);
  shared_.metrics.CallFinished(method_, status.code(), seconds);
  if (!status.ok()) shared_.metrics.Failed(DetailsOf(status).reason);
  shared_.call_log.Ended(status.ok(), [&] {
    CallRecord record;
    record.method = method_;
    record.request_id = request_id_;
    record.traceparent = traceparent_;
    record.code = status.code();
    if (!status.ok()) record.reason = DetailsOf(status).reason;
    record.seconds = seconds;
    record.request_bytes = static_cast<std::int64_t>(request_.ByteSizeLong());
    if (status.ok()) record.response_bytes = static_cast<std::int64_t>(response_.ByteSizeLong());
    describe(&record);
    return record;
  });
}

// Who may not call is told so before anything is looked at. And gRPC holds a connection to the limit of metadata only
// when the client has acknowledged it, which may be after its first calls.
absl::Status MayEnter(const Arrival& arrival) {
  if (absl::Status may = arrival.door.Check(*arrival.context); !may.ok()) return may;
  constexpr std::size_t kOverhead = 32;  // of an entry, as HTTP/2 counts it
  std::size_t bytes = 0;
  for (const auto& [key, value] : arrival.context->client_metadata()) bytes += key.size() + value.size() + kOverhead;
  const std::int64_t most = arrival.shared.limits.max_metadata_bytes;
  Violations violations;
  if (static_cast<std::int64_t>(bytes) > most) {
    violations.Add("metadata", absl::StrCat(bytes, " bytes"), absl::StrCat("at most ", most, " bytes"));
  }
  return violations.ToStatus();
}

// A call that is answered at once, by `work`. Every method comes through here or through StartCall.
grpc::ServerUnaryReactor* Answer(const Arrival& arrival, const google::protobuf::Message& request,
                                 const google::protobuf::Message& response, absl::FunctionRef<absl::Status()> work) {
  CallWatch watch(arrival, request, response);
  absl::Status status = MayEnter(arrival);
  try {
    if (status.ok()) status = work();
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("not enough memory for this call now");
  }
  watch.Finish(status, [](CallRecord*) {});
  grpc::ServerUnaryReactor* reactor = arrival.context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace headlight
