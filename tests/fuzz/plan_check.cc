// Bytes of any PlanAttention: answered, or refused as the contract promises.
#include "server/service/pipeline.h"
#include "tests/fuzz/fuzz.h"
#include "tests/service/call_fixture.h"

namespace headlight::fuzz {
namespace {

class Server final : public CallTest {
 public:
  absl::Status Plan(const v1::PlanAttentionRequest& request, v1::PlanAttentionResponse* response) {
    return PlanCall(shared_, request, response);
  }

 private:
  void TestBody() override {}
};

void RunPlan(const v1::PlanAttentionRequest& message) {
  static auto& server = *new Server();
  v1::PlanAttentionResponse response;
  const absl::Status status = server.Plan(message, &response);
  if (!status.ok()) return ExpectRefusal(status);
  Expect(response.algorithm() != v1::ALGORITHM_UNSPECIFIED || response.violations_size() > 0,
         "a plan says the algorithm, or what is too large", response.ShortDebugString());
  Expect(response.query_heads() >= response.key_value_heads(), "heads divide", response.ShortDebugString());
  constexpr std::uint64_t kMost = std::uint64_t{1} << 63;
  for (const std::uint64_t number : {response.flops(), response.naive_bytes(), response.flash_bytes(),
                                     response.score_grid_bytes(), response.response_bytes()}) {
    Expect(number < kMost, "work is counted without overflow", response.ShortDebugString());
  }
}

}  // namespace

const google::protobuf::Message& Prototype() { return v1::PlanAttentionRequest::default_instance(); }

void Run(const google::protobuf::Message& message) { RunPlan(static_cast<const v1::PlanAttentionRequest&>(message)); }

}  // namespace headlight::fuzz
