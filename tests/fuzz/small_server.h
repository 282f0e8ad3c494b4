// What takes the calls of targets that compute: a server without its wire, for problems so small that thousands run in
// a second.
#ifndef HEADLIGHT_TESTS_FUZZ_SMALL_SERVER_H_
#define HEADLIGHT_TESTS_FUZZ_SMALL_SERVER_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/service/call_fixture.h"

namespace headlight::fuzz {

class SmallServer : public CallTest {
 public:
  // `tokens` and `elements` (of a tensor) at most, and `response_bytes` of an answer.
  SmallServer(std::int64_t tokens, std::int64_t elements, std::int64_t response_bytes) {
    limits_.max_batch = 4;
    limits_.max_heads = 16;
    limits_.max_head_size = 64;
    limits_.max_width = 64;
    limits_.max_tokens = limits_.max_stream_tokens = tokens;
    limits_.max_tensor_elements = elements;
    limits_.max_response_bytes = limits_.max_stream_response_bytes = response_bytes;
  }

  const LayerStore& layers() const { return layers_; }

  absl::StatusOr<ProblemSpec> Check(const DecodedCall& call) const { return CheckProblem(call.request, limits_); }

  absl::Status Attend(const v1::AttendRequest& request, v1::AttendResponse* response) {
    AttendCall call(shared_);
    return Run(call, request, response);
  }

  // What must be given back after every call.
  bool IsIdle() const { return admission_.calls() == 0 && admission_.reserved_bytes() == 0 && memory_.now() == 0; }

 private:
  void TestBody() override {}
};

}  // namespace headlight::fuzz

#endif  // HEADLIGHT_TESTS_FUZZ_SMALL_SERVER_H_
