// What calls share, and a way to run one to its end without gRPC.
#ifndef HEADLIGHT_TESTS_SERVICE_CALL_FIXTURE_H_
#define HEADLIGHT_TESTS_SERVICE_CALL_FIXTURE_H_

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "server/admission/admission.h"
#include "server/base/limits.h"
#include "server/layers/demo.h"
#include "server/service/encode.h"
#include "server/service/pipeline.h"

namespace headlight {

class CallTest : public testing::Test {
 protected:
  static MetricSources Sources(const MemoryLedger& memory) {
    const auto nothing = [] { return 0; };
    const auto none = [] { return 0.0; };
    static const LogCounts log;
    return {&memory, &log, nothing, nothing, none,   [] { return true; }, [] { return false; }, none,
            nothing, none, nothing, nothing, nothing};
  }

  // The demo's sentence through its layer; both requests have these fields.
  template <typename Request>
  static Request DemoRequest() {
    Request request;
    EncodeTensor(OwnedTensor(GetDemo().embeddings), request.mutable_self_attention()->mutable_embeddings());
    request.mutable_self_attention()->set_layer("demo");
    return request;
  }

  // Accepts, computes and, where that went well, encodes.
  template <typename Call>
  absl::Status Run(Call& call, const typename Call::Request& request, typename Call::Response* response,
                   absl::Time deadline = absl::InfiniteFuture()) {
    if (absl::Status accepted = call.Accept(request, deadline); !accepted.ok()) return accepted;
    absl::Status status = Compute(call);
    if (status.ok()) call.Encode(response);
    return status;
  }

  template <typename Call>
  static absl::Status Compute(Call& call) {
    absl::Notification ended;
    absl::Status status;
    call.Compute([&](const absl::Status& computed) {
      status = computed;
      ended.Notify();
    });
    ended.WaitForNotification();
    return status;
  }

  bool Exposes(const std::string& line) const { return metrics_.Expose().find(line + "\n") != std::string::npos; }

  Limits limits_;
  MemoryLedger memory_;
  MatmulCache matmuls_;
  Metrics metrics_{BuildInfo{"1.2.3", "x", "y", "z"}, limits_, Sources(memory_)};
  std::atomic<std::int64_t> open_calls_{0};
  std::atomic<bool> aborted_{false};
  ComputePool pool_{2};
  Admission admission_{AdmissionOptions{.workers = 2, .aborted = &aborted_}, &memory_};
  CallLog call_log_{0, [](const std::string&) {}};
  LayerStore layers_;
  Shared shared_{limits_, pool_, matmuls_, memory_, metrics_, call_log_, admission_, layers_, open_calls_};
};

}  // namespace headlight

#endif  // HEADLIGHT_TESTS_SERVICE_CALL_FIXTURE_H_
