// Memory that ends: of a small call every allocation fails once. Whatever fails, the call is answered or refused with
// RESOURCE_EXHAUSTED, gives back what it held, and the next one is answered as ever.
#include <google/protobuf/arena.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <new>
#include <utility>

#include "absl/synchronization/notification.h"
#include "server/service/merge_call.h"
#include "tests/service/call_fixture.h"

namespace {
// The allocation that fails, counted down; 0 and less: none.
std::atomic<std::int64_t> until_failure{0};

void* Allocate(std::size_t bytes, std::size_t alignment) {
  if (until_failure.load(std::memory_order_relaxed) > 0 && until_failure.fetch_sub(1) == 1) throw std::bad_alloc();
  void* data = alignment == 0 ? std::malloc(bytes)
                              : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}
}  // namespace

// Of the whole process, the libraries' too.
void* operator new(std::size_t bytes) { return Allocate(bytes, 0); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return Allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t /*bytes*/) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t /*alignment*/) noexcept { std::free(data); }
void operator delete(void* data, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept { std::free(data); }

namespace headlight {
namespace {

class FailingAllocationTest : public CallTest {
 protected:
  // Runs the call as the service does, where the N-th allocation from the first on fails.
  template <typename Call>
  absl::Status RunFailing(const typename Call::Request& request, std::int64_t n) {
    Call call(shared_);
    // On an arena as the service's: elsewhere protobuf loses a message whose place in its list cannot be made.
    google::protobuf::Arena arena;
    auto* response = google::protobuf::Arena::CreateMessage<typename Call::Response>(&arena);
    until_failure.store(n);
    absl::Status status;
    try {
      status = Run(call, request, response);
    } catch (const std::bad_alloc&) {
      status = absl::ResourceExhaustedError("as the service says it");
    }
    return status;
  }

  // Every allocation of the call in turn, until none is left to fail.
  template <typename Call>
  void ExpectSafe(const typename Call::Request& request) {
    ASSERT_EQ(RunFailing<Call>(request, 0), absl::OkStatus());  // products and metrics are warm
    std::int64_t refused = 0;
    std::int64_t n = 1;
    for (bool failed = true; failed; ++n) {
      const absl::Status status = RunFailing<Call>(request, n);
      failed = until_failure.exchange(0) <= 0;
      refused += status.ok() ? 0 : 1;
      EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << "allocation " << n << ": " << status;
      EXPECT_TRUE(failed || status.ok()) << "nothing failed: " << status;
      EXPECT_EQ(memory_.now(), 0) << "allocation " << n;
      EXPECT_EQ(admission_.calls(), 0) << "allocation " << n;
    }
    EXPECT_GT(refused, 50) << "of " << n;
    EXPECT_EQ(RunFailing<Call>(request, 0), absl::OkStatus());
  }
};

// Whatever a call can ask for, small.
template <typename Request>
Request AllAtOnce(v1::Algorithm algorithm) {
  Request request;
  v1::SelfAttention& self = *request.mutable_self_attention();
  self.mutable_seeded_embeddings()->set_tokens(5);
  self.mutable_seeded_embeddings()->set_width(8);
  self.mutable_seeded_weights()->set_seed(1);
  v1::AttentionOptions& options = *request.mutable_options();
  options.set_query_heads(2);
  options.set_algorithm(algorithm);
  options.mutable_position()->mutable_rotary()->set_layout(v1::CHANNEL_LAYOUT_HALVES);
  options.mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  for (const std::int64_t id : {1, 1, 1, 2, 2}) {
    options.mutable_mask()->mutable_segments()->add_query_ids(id);
    options.mutable_mask()->mutable_segments()->add_key_ids(id);
  }
  v1::OutputSelection& outputs = *request.mutable_outputs();
  outputs.set_log_sum_exp(true);
  outputs.set_head_outputs(true);
  outputs.set_head_statistics(true);
  outputs.set_verify_rows(2);
  outputs.add_maps()->mutable_full();
  outputs.add_maps()->mutable_top_keys()->set_k(2);
  outputs.add_maps()->mutable_column_sums();
  return request;
}

TEST_F(FailingAllocationTest, AttendIsAnsweredOrRefused) {
  for (const v1::Algorithm algorithm : {v1::ALGORITHM_NAIVE, v1::ALGORITHM_FLASH}) {
    SCOPED_TRACE(v1::Algorithm_Name(algorithm));
    ExpectSafe<AttendCall>(AllAtOnce<v1::AttendRequest>(algorithm));
  }
}

TEST_F(FailingAllocationTest, CompareIsAnsweredOrRefused) {
  ExpectSafe<CompareCall>(AllAtOnce<v1::CompareAlgorithmsRequest>(v1::ALGORITHM_UNSPECIFIED));
}

TEST_F(FailingAllocationTest, MergeIsAnsweredOrRefused) {
  const auto tensor = [](std::initializer_list<std::int64_t> shape, int count) {
    v1::Tensor message;
    message.mutable_shape()->Assign(shape.begin(), shape.end());
    for (int i = 0; i < count; ++i) message.mutable_f32_values()->add_values(1);
    return message;
  };
  v1::MergePartialsRequest request;
  for (int i = 0; i < 2; ++i) {
    *request.add_partials()->mutable_output() = tensor({1, 2, 3, 4}, 24);
    *request.mutable_partials(i)->mutable_log_sum_exp() = tensor({1, 2, 3}, 6);
  }
  *request.mutable_output_weights() = tensor({8, 5}, 40);
  ExpectSafe<MergeCall>(request);
}

// Three phases that every worker takes part in.
class Phases final : public Work {
 public:
  absl::StatusOr<int> BeginPhase(int workers) override { return left_-- > 0 ? workers : 0; }
  absl::StatusOr<bool> RunUnit(int /*lane*/) override { return false; }

 private:
  int left_ = 3;
};

// Of a new pool, whose workers have not yet got memory for anything.
TEST(FailingAllocation, ThePoolRunsAWorkOrSaysThatItCannot) {
  std::int64_t refused = 0;
  for (bool failed = true; failed;) {
    ComputePool pool(3);
    Phases work;
    absl::Notification ended;
    auto control = std::make_shared<CallControl>(absl::InfiniteFuture());
    until_failure.store(refused + 1);
    try {
      pool.Run(std::move(control), &work, [&ended](const absl::Status& status) {
        EXPECT_EQ(status, absl::OkStatus());
        ended.Notify();
      });
      ended.WaitForNotification();
    } catch (const std::bad_alloc&) {
      ++refused;
    }
    failed = until_failure.exchange(0) <= 0;
  }
  EXPECT_GE(refused, 2);
}

TEST_F(FailingAllocationTest, ARefusalIsOneOrTheOther) {
  v1::AttendRequest request;
  request.mutable_self_attention()->set_layer("demo");
  for (std::int64_t n = 1; n > 0; ++n) {
    const absl::Status status = RunFailing<AttendCall>(request, n);
    if (until_failure.exchange(0) > 0) break;
    EXPECT_TRUE(absl::IsResourceExhausted(status) || absl::IsInvalidArgument(status)) << status;
  }
}

}  // namespace
}  // namespace headlight
