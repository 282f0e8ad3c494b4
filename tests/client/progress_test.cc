#include "client/cli/progress.h"

#include <gtest/gtest.h>

namespace headlight::cli {
namespace {

using Stage = client::StreamProgress::Stage;

TEST(Progress, BytesWithRateAndTimeLeft) {
  const client::StreamProgress half{Stage::kSending, std::uint64_t{3} << 20, std::uint64_t{6} << 20};
  EXPECT_EQ(ProgressLine(half, std::uint64_t{1} << 20, absl::Seconds(2)),
            "sending   [############            ]  50 %  3.0 MiB of 6.0 MiB, 1.0 MiB/s, 3.00 s left");
}

TEST(Progress, TilesAreCounted) {
  EXPECT_EQ(ProgressLine({Stage::kComputing, 25, 100}, 0, absl::Milliseconds(500)),
            "computing [######                  ]  25 %  25 of 100 tiles, 50/s, 1.50 s left");
}

TEST(Progress, NothingIsKnownOfTheRateAtFirst) {
  EXPECT_EQ(ProgressLine({Stage::kReceiving, 512, 1024}, 512, absl::Seconds(1)),
            "receiving [############            ]  50 %  512 B of 1.0 KiB");
  EXPECT_EQ(ProgressLine({Stage::kReceiving, 0, 0}, 0, absl::ZeroDuration()),
            "receiving [                        ]   0 %  0 B of 0 B");
}

TEST(Progress, NoTimeIsLeftAtTheEnd) {
  EXPECT_EQ(ProgressLine({Stage::kComputing, 100, 100}, 0, absl::Seconds(1)),
            "computing [########################] 100 %  100 of 100 tiles, 100/s");
}

}  // namespace
}  // namespace headlight::cli
