#include "client/cli/format.h"

#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "client/cli/execution.h"
#include "client/cli/exit_codes.h"

namespace headlight::cli {
namespace {

TEST(Format, Units) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(128 << 20), "128.0 MiB");
  EXPECT_EQ(HumanBytes(~std::uint64_t{0}), "16777216.0 TiB");
  EXPECT_EQ(HumanSeconds(0.000412), "412 us");
  EXPECT_EQ(HumanSeconds(0.0123), "12.3 ms");
  EXPECT_EQ(HumanSeconds(1.25), "1.25 s");
  EXPECT_EQ(HumanRate(5'000'000'000, 0.25), "20.0 GFLOP/s");
  EXPECT_EQ(HumanRate(5, 0), "-");
  EXPECT_EQ(HumanFlops(206'158'430'208), "206 GFLOP");
  EXPECT_EQ(ShapeText({}), "[]");
  EXPECT_EQ(ShapeText({1, 8, 2048}), "[1, 8, 2048]");
}

TEST(Format, FitsByCodePoints) {
  EXPECT_EQ(Fit("ab", 4, Pad::kLeft), "  ab");
  EXPECT_EQ(Fit("ab", 4, Pad::kRight), "ab  ");
  EXPECT_EQ(Fit("abcdef", 4, Pad::kLeft), "abc~");
  EXPECT_EQ(Fit("\xc3\xa4\xc3\xb6\xc3\xbc", 2, Pad::kLeft), "\xc3\xa4~");
}

TEST(Format, TableAlignsColumns) {
  EXPECT_EQ(Table({{"", "time"}, {"naive", "1 s"}, {"b"}}), "       time\nnaive   1 s\nb\n");
  EXPECT_EQ(Table({}), "");
}

TEST(Format, SummaryNamesAlgorithmTimeAndBytes) {
  v1::Execution execution;
  execution.set_algorithm(v1::ALGORITHM_FLASH);
  execution.set_algorithm_reason("the grid would not fit");
  execution.set_cpu_target("avx2");
  execution.set_workers(4);
  execution.set_query_heads(8);
  execution.set_key_value_heads(2);
  execution.set_head_size(64);
  execution.set_scale(0.125);
  execution.set_position_scheme("rotary");
  execution.set_causal_alignment(v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT);
  execution.mutable_project()->set_nanos(50'000'000);
  execution.mutable_attend()->set_nanos(200'000'000);
  execution.mutable_total()->set_seconds(1);
  execution.set_flops(5'000'000'000);
  execution.set_workspace_bytes(3 << 20);
  execution.mutable_verification()->set_rows(4);
  execution.mutable_verification()->set_max_abs_error(1.5e-7);
  EXPECT_EQ(Summary(execution),
            "algorithm  flash (the grid would not fit), avx2, 4 workers\n"
            "attention  8 heads of size 64 over 2 key/value heads, scale 0.125, positions rotary, causal bottom-right\n"
            "time       1.00 s (queue 0 us, project 50.0 ms, attend 200.0 ms, maps 0 us), 5 GFLOP at 20.0 GFLOP/s\n"
            "memory     3.0 MiB (scratch 0 B, packed 0 B, projections 0 B); the full grid of scores takes 0 B\n"
            "verified   4 rows in double precision: largest error 1.5e-07\n");
}

TEST(Format, SummaryNamesWhatIsUnusual) {
  v1::Execution execution;
  execution.set_window_alignment(v1::CAUSAL_ALIGNMENT_EXPLICIT);
  execution.set_softcap(30);
  execution.set_precision(v1::COMPUTE_PRECISION_BFLOAT16);
  execution.set_non_finite("ieee");
  EXPECT_TRUE(absl::StrContains(Summary(execution),
                                ", window explicit, softcap 30, in bfloat16, non-finite numbers by IEEE rules\n"))
      << Summary(execution);
  EXPECT_EQ(NameOf(v1::COMPUTE_PRECISION_FLOAT32), "float32");
}

TEST(ExitCodes, FollowFromTheCode) {
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), kExitOk);
  EXPECT_EQ(ExitCodeFor(absl::InvalidArgumentError("")), kExitRefused);
  EXPECT_EQ(ExitCodeFor(absl::NotFoundError("")), kExitRefused);
  EXPECT_EQ(ExitCodeFor(absl::UnimplementedError("")), kExitRefused);
  EXPECT_EQ(ExitCodeFor(absl::ResourceExhaustedError("")), kExitRefused);
  EXPECT_EQ(ExitCodeFor(absl::UnavailableError("")), kExitUnavailable);
  EXPECT_EQ(ExitCodeFor(absl::DeadlineExceededError("")), kExitUnavailable);
  EXPECT_EQ(ExitCodeFor(absl::InternalError("")), kExitOther);
  EXPECT_EQ(ExitCodeFor(absl::CancelledError("")), kExitOther);
}

}  // namespace
}  // namespace headlight::cli
