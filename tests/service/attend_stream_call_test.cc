#include "server/service/attend_stream_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/base/errors.h"
#include "tests/service/call_fixture.h"

namespace headlight {
namespace {

using testing::HasSubstr;

class AttendStreamCallTest : public CallTest {
 protected:
  // Q, K and V of [1, heads, tokens, 4] float32.
  static v1::AttendStreamRequest Header(std::int64_t heads, std::int64_t tokens) {
    v1::AttendStreamRequest message;
    v1::QueryKeyValueSpec* input = message.mutable_header()->mutable_call()->mutable_query_key_value();
    for (v1::TensorSpec* spec : {input->mutable_query(), input->mutable_key(), input->mutable_value()}) {
      for (const std::int64_t size : {std::int64_t{1}, heads, tokens, std::int64_t{4}}) spec->add_shape(size);
      spec->set_kind(v1::TENSOR_KIND_F32);
    }
    return message;
  }

  static v1::AttendStreamRequest Chunk(v1::StreamedTensor tensor, std::uint64_t offset, std::size_t bytes) {
    v1::AttendStreamRequest message;
    message.mutable_chunk()->set_tensor(tensor);
    message.mutable_chunk()->set_offset(offset);
    message.mutable_chunk()->set_data(std::string(bytes, '\0'));
    return message;
  }

  static v1::AttendStreamRequest Commit() {
    v1::AttendStreamRequest message;
    message.mutable_commit();
    return message;
  }

  static bool TakeAll(AttendStreamCall& call, std::size_t bytes) {
    for (const auto tensor : {v1::STREAMED_TENSOR_VALUE, v1::STREAMED_TENSOR_QUERY, v1::STREAMED_TENSOR_KEY}) {
      if (!call.Take(Chunk(tensor, 0, bytes)).ok()) return false;
    }
    return call.Take(Commit()).ok();
  }

  // The parts that come now, in order.
  static std::vector<int> Parts(AttendStreamCall& call, StreamPhase phase, bool tick = false) {
    std::vector<int> parts;
    v1::AttendStreamResponse message;
    while (call.Next(phase, std::exchange(tick, false), &message)) parts.push_back(message.part_case());
    return parts;
  }

  AttendStreamCall call_{shared_, absl::InfiniteFuture(), [] {}};
  v1::AttendStreamResponse message_;
};

TEST_F(AttendStreamCallTest, FromHeaderToEnd) {
  v1::AttendStreamRequest header = Header(2, 8);
  header.mutable_header()->mutable_call()->mutable_outputs()->set_head_statistics(true);
  ASSERT_TRUE(call_.Take(header).ok());
  EXPECT_TRUE(call_.accepted());
  EXPECT_EQ(Parts(call_, StreamPhase::kReceiving), std::vector<int>{v1::AttendStreamResponse::kAcceptance});
  EXPECT_GT(admission_.reserved_bytes(), 4 * 2 * 8 * 4 * 4);
  ASSERT_TRUE(TakeAll(call_, 2 * 8 * 4 * 4));
  EXPECT_TRUE(call_.committed());
  EXPECT_EQ(Parts(call_, StreamPhase::kComputing, /*tick=*/true),
            std::vector<int>{v1::AttendStreamResponse::kProgress});
  ASSERT_TRUE(Compute(call_).ok());
  call_.Computed();
  EXPECT_EQ(Parts(call_, StreamPhase::kComputed),
            (std::vector<int>{v1::AttendStreamResponse::kProgress, v1::AttendStreamResponse::kChunk,
                              v1::AttendStreamResponse::kHeadStatistics, v1::AttendStreamResponse::kEnd}));
  EXPECT_TRUE(call_.ended());
}

TEST_F(AttendStreamCallTest, FewRowsWaitForATick) {
  ASSERT_TRUE(call_.Take(Header(2, 8)).ok());
  ASSERT_TRUE(TakeAll(call_, 2 * 8 * 4 * 4));
  ASSERT_TRUE(Compute(call_).ok());
  ASSERT_TRUE(call_.Next(StreamPhase::kComputing, false, &message_));
  EXPECT_TRUE(message_.has_acceptance());
  EXPECT_EQ(Parts(call_, StreamPhase::kComputing), std::vector<int>{v1::AttendStreamResponse::kProgress});
  EXPECT_EQ(Parts(call_, StreamPhase::kComputing, /*tick=*/true),
            (std::vector<int>{v1::AttendStreamResponse::kProgress, v1::AttendStreamResponse::kChunk}));
}

TEST_F(AttendStreamCallTest, ACallThatReceivesCountsWithItsMemoryAlone) {
  ASSERT_TRUE(call_.Take(Header(8, 4096)).ok());
  EXPECT_GT(admission_.reserved_bytes(), 0);
  EXPECT_EQ(admission_.backlog_seconds(), 0);
}

TEST_F(AttendStreamCallTest, WhatIsDroppedIsGivenBack) {
  {
    AttendStreamCall dropped(shared_, absl::InfiniteFuture(), [] {});
    ASSERT_TRUE(dropped.Take(Header(8, 4096)).ok());
    ASSERT_TRUE(dropped.Take(Chunk(v1::STREAMED_TENSOR_KEY, 0, 1000)).ok());
  }
  EXPECT_EQ(admission_.reserved_bytes(), 0);
  EXPECT_EQ(memory_.now(), 0);
}

TEST_F(AttendStreamCallTest, AWrongMessageLeavesTheCallAsItWas) {
  ASSERT_TRUE(call_.Take(Header(2, 8)).ok());
  EXPECT_FALSE(call_.Take(Header(2, 8)).ok());
  EXPECT_FALSE(call_.Take(Chunk(v1::STREAMED_TENSOR_KEY, 4, 4)).ok());
  EXPECT_FALSE(call_.Take(Chunk(v1::STREAMED_TENSOR_MASK, 0, 4)).ok());
  EXPECT_FALSE(call_.Take(Commit()).ok());
  EXPECT_FALSE(call_.committed());
  EXPECT_TRUE(TakeAll(call_, 2 * 8 * 4 * 4));
  const absl::Status late = call_.Take(Commit());
  EXPECT_THAT(std::string(late.message()), HasSubstr("after the commit"));
}

TEST_F(AttendStreamCallTest, AHeaderIsRefusedBeforeThereIsRoom) {
  for (const int power : {40, 61, 62}) {  // bytes that 64 bits do not count
    EXPECT_EQ(call_.Take(Header(1, std::int64_t{1} << power)).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(call_.Take(Header(2, 300'000)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(call_.accepted());
  EXPECT_FALSE(call_.Next(StreamPhase::kReceiving, false, &message_));
  EXPECT_EQ(DetailsOf(call_.Take(Commit())).violations.front().field, "header");
  EXPECT_TRUE(call_.Take(Header(2, 8)).ok());
}

}  // namespace
}  // namespace headlight
