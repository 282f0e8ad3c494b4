#include "client/cli/progress.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"

namespace headlight::cli {
namespace {

using Stage = client::StreamProgress::Stage;

TEST(Progress, BytesWithRateAndTimeLeft) {
  const client::StreamProgress half{Stage::kSending, std::uint64_t{3} << 20, std::uint64_t{6} << 20};
  EXPECT_EQ(ProgressLine(half, std::uint64_t{1} << 20, absl::Seconds(2), 200),
            "sending   [############            ]  50 %  3.0 MiB of 6.0 MiB, 1.0 MiB/s, 3.00 s left");
}

TEST(Progress, TilesAreCounted) {
  EXPECT_EQ(ProgressLine({Stage::kComputing, 25, 100}, 0, absl::Milliseconds(500), 200),
            "computing [######                  ]  25 %  25 of 100 tiles, 50/s, 1.50 s left");
}

TEST(Progress, NothingIsKnownOfTheRateAtFirst) {
  EXPECT_EQ(ProgressLine({Stage::kReceiving, 512, 1024}, 512, absl::Seconds(1), 200),
            "receiving [############            ]  50 %  512 B of 1.0 KiB");
  EXPECT_EQ(ProgressLine({Stage::kReceiving, 0, 0}, 0, absl::ZeroDuration(), 200),
            "receiving [                        ]   0 %  0 B of 0 B");
}

TEST(Progress, NoTimeIsLeftAtTheEnd) {
  EXPECT_EQ(ProgressLine({Stage::kComputing, 100, 100}, 0, absl::Seconds(1), 200),
            "computing [########################] 100 %  100 of 100 tiles, 100/s");
}

TEST(Progress, FitsTheTerminal) {
  const client::StreamProgress progress{Stage::kSending, std::uint64_t{109} << 20, std::uint64_t{192} << 20};
  const std::vector<std::pair<std::size_t, std::string>> lines = {
      {200, "sending   [#############           ]  56 %  109.0 MiB of 192.0 MiB, 357.5 MiB/s, 232.2 ms left"},
      {95, "sending   [#############           ]  56 %  109.0 MiB of 192.0 MiB, 357.5 MiB/s, 232.2 ms left"},
      {94, "sending   [#############          ]  56 %  109.0 MiB of 192.0 MiB, 357.5 MiB/s, 232.2 ms left"},
      {80, "sending   [#####    ]  56 %  109.0 MiB of 192.0 MiB, 357.5 MiB/s, 232.2 ms left"},
      {60, "sending   [#########        ]  56 %  109.0 MiB of 192.0 MiB"},
      {40, "sending   [###########          ]  56 %"},
      {20, "sending     56 %"},
      {10, "sending  "},
      {1, ""},
      {0, ""},
  };
  for (const auto& [columns, line] : lines) {
    EXPECT_EQ(ProgressLine(progress, 0, absl::Milliseconds(304.9), columns), line) << columns;
  }
  for (std::size_t columns = 1; columns < 120; ++columns) {
    EXPECT_LT(ProgressLine(progress, 0, absl::Milliseconds(304.9), columns).size(), columns);
  }
}

// What a bar writes to a terminal of so many columns; all of it fits the terminal's buffer.
std::string Shown(unsigned short columns, const std::vector<client::StreamProgress>& all) {
  winsize size{};
  size.ws_col = columns;
  int ours = -1, theirs = -1;
  EXPECT_EQ(openpty(&ours, &theirs, nullptr, nullptr, &size), 0);
  const int before = dup(STDERR_FILENO);
  if (theirs < 0 || before < 0) return "no terminal";
  dup2(theirs, STDERR_FILENO);
  {
    ProgressBar bar;
    for (const client::StreamProgress& progress : all) bar.Show(progress);
  }
  dup2(before, STDERR_FILENO);
  close(before);
  close(theirs);
  std::string shown;
  std::array<char, 4096> part{};
  for (;;) {  // the kernel carries what was written in parts; after the last comes an error: nobody writes any more
    const ssize_t bytes = read(ours, part.data(), part.size());
    if (bytes <= 0) break;
    shown.append(part.data(), static_cast<std::size_t>(bytes));
  }
  close(ours);
  return shown;
}

TEST(Progress, AsksTheTerminal) {
  EXPECT_EQ(Shown(40, {{Stage::kSending, 0, 2}}), "\rsending   [         ]   0 %  0 B of 2 B\x1b[K\r\x1b[K");
  EXPECT_EQ(Shown(0, {{Stage::kSending, 0, 2}}),
            "\rsending   [                        ]   0 %  0 B of 2 B\x1b[K\r\x1b[K");
}

TEST(Progress, RowsThatComeWhileOthersAreComputedAreNotTold) {
  const std::string shown = Shown(80, {{Stage::kSending, 2, 2},
                                       {Stage::kComputing, 0, 7},
                                       {Stage::kReceiving, 10, 100},
                                       {Stage::kComputing, 7, 7},
                                       {Stage::kReceiving, 20, 100}});
  EXPECT_TRUE(absl::StrContains(shown, "7 of 7 tiles"));
  EXPECT_FALSE(absl::StrContains(shown, "10 B of 100 B"));
  EXPECT_TRUE(absl::StrContains(shown, "20 B of 100 B"));
}

TEST(Progress, WhatComesIsToldWhereNothingWasComputed) {
  EXPECT_TRUE(absl::StrContains(Shown(80, {{Stage::kSending, 2, 2}, {Stage::kReceiving, 10, 100}}), "10 B of 100 B"));
}

}  // namespace
}  // namespace headlight::cli
