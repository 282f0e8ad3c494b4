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
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/synchronization/notification.h"
#include "server/service/attend_stream_call.h"
#include "server/service/merge_call.h"
#include "tests/service/call_fixture.h"

namespace {
// The allocation that fails, counted down; 0 and less: none.
std::atomic<std::int64_t> until_failure{0};

bool FailsNow() { return until_failure.load(std::memory_order_relaxed) > 0 && until_failure.fetch_sub(1) == 1; }
}  // namespace

// The linker leads calls of aligned_alloc here (--wrap).
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" void* __real_aligned_alloc(std::size_t alignment, std::size_t bytes);
extern "C" void* __wrap_aligned_alloc(std::size_t alignment, std::size_t bytes) {
  return FailsNow() ? nullptr : __real_aligned_alloc(alignment, bytes);
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace {
void* Allocate(std::size_t bytes, std::size_t alignment) {
  void* data = nullptr;
  if (alignment > 0) {
    data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  } else if (!FailsNow()) {
    data = std::malloc(bytes);
  }
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

  // Likewise a stream, of which there are looks for something to send in every phase.
  absl::Status RunFailing(const std::vector<v1::AttendStreamRequest>& messages, std::int64_t n) {
    AttendStreamCall call(shared_, absl::InfiniteFuture(), [] {});
    google::protobuf::Arena arena;
    auto* answer = google::protobuf::Arena::CreateMessage<v1::AttendStreamResponse>(&arena);
    until_failure.store(n);
    absl::Notification ended;
    absl::Status status;
    try {
      for (const v1::AttendStreamRequest& message : messages) {
        if (absl::Status taken = call.Take(message); !taken.ok()) return taken;
        call.Next(StreamPhase::kReceiving, /*tick=*/false, answer);
      }
      call.Compute([&](const absl::Status& computed) {
        status = computed;
        ended.Notify();
      });
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError("as the service says it");
    }
    try {
      call.Next(StreamPhase::kComputing, /*tick=*/true, answer);
      call.Next(StreamPhase::kComputing, /*tick=*/false, answer);
    } catch (const std::bad_alloc&) {
      call.control()->Cancel();
      ended.WaitForNotification();
      return absl::ResourceExhaustedError("as the service says it");
    }
    ended.WaitForNotification();
    if (!status.ok()) return status;
    try {
      call.Computed();
      while (!call.ended()) call.Next(StreamPhase::kComputed, /*tick=*/false, answer);
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError("as the service says it");
    }
    return status;
  }

  template <typename Call>
  void ExpectSafe(const typename Call::Request& request) {
    ExpectSafe([&](std::int64_t n) { return RunFailing<Call>(request, n); });
  }

  // Every allocation of the call in turn, until none is left to fail.
  void ExpectSafe(absl::FunctionRef<absl::Status(std::int64_t)> run) {
    ASSERT_EQ(run(0), absl::OkStatus());  // products and metrics are warm
    std::int64_t refused = 0;
    std::int64_t n = 1;
    for (bool failed = true; failed; ++n) {
      const absl::Status status = run(n);
      failed = until_failure.exchange(0) <= 0;
      refused += status.ok() ? 0 : 1;
      EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << "allocation " << n << ": " << status;
      EXPECT_TRUE(failed || status.ok()) << "nothing failed: " << status;
      EXPECT_EQ(memory_.now(), 0) << "allocation " << n;
      EXPECT_EQ(admission_.calls(), 0) << "allocation " << n;
    }
    EXPECT_GT(refused, 50) << "of " << n;
    EXPECT_EQ(run(0), absl::OkStatus());
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

// The same with tensors in chunks; `token_major`: rows are sent when all their heads are done.
std::vector<v1::AttendStreamRequest> StreamOfAll(v1::Algorithm algorithm, bool token_major) {
  auto call = AllAtOnce<v1::AttendRequest>(algorithm);
  std::vector<v1::AttendStreamRequest> messages(1);
  v1::PlanAttentionRequest& header = *messages.front().mutable_header()->mutable_call();
  *header.mutable_options() = call.options();
  *header.mutable_outputs() = call.outputs();
  v1::QueryKeyValueSpec& given = *header.mutable_query_key_value();
  for (v1::TensorSpec* tensor : {given.mutable_query(), given.mutable_key(), given.mutable_value()}) {
    for (const std::int64_t size : token_major ? Shape{5, 16} : Shape{1, 2, 5, 8}) tensor->add_shape(size);
    tensor->set_kind(v1::TENSOR_KIND_F32);
  }
  for (const auto name : {v1::STREAMED_TENSOR_QUERY, v1::STREAMED_TENSOR_KEY, v1::STREAMED_TENSOR_VALUE}) {
    for (const std::uint64_t offset : {0, 100}) {
      v1::TensorChunk& chunk = *messages.emplace_back().mutable_chunk();
      chunk.set_tensor(name);
      chunk.set_offset(offset);
      chunk.set_data(std::string(offset == 0 ? 100 : 220, '\0'));
    }
  }
  messages.emplace_back().mutable_commit();
  return messages;
}

TEST_F(FailingAllocationTest, AttendStreamIsAnsweredOrRefused) {
  for (const v1::Algorithm algorithm : {v1::ALGORITHM_NAIVE, v1::ALGORITHM_FLASH}) {
    for (const bool token_major : {false, true}) {
      SCOPED_TRACE(v1::Algorithm_Name(algorithm) + (token_major ? ", token-major" : ""));
      const std::vector<v1::AttendStreamRequest> messages = StreamOfAll(algorithm, token_major);
      ExpectSafe([&](std::int64_t n) { return RunFailing(messages, n); });
    }
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
