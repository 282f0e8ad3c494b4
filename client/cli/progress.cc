#include "client/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/format.h"

namespace headlight::cli {
namespace {

using Stage = client::StreamProgress::Stage;

const char* NameOf(Stage stage) {
  switch (stage) {
    case Stage::kSending: return "sending";
    case Stage::kComputing: return "computing";
    case Stage::kReceiving: return "receiving";
  }
  return "";
}

std::string AmountText(Stage stage, std::uint64_t amount) {
  return stage == Stage::kComputing ? absl::StrCat(amount) : HumanBytes(amount);
}

}  // namespace

std::string ProgressLine(const client::StreamProgress& progress, std::uint64_t first, absl::Duration elapsed) {
  constexpr std::uint64_t kCells = 24;
  const std::uint64_t total = std::max<std::uint64_t>(progress.total, 1);
  const std::uint64_t done = std::min(progress.done, total);
  const auto cells = static_cast<std::size_t>(done * kCells / total);
  std::string line =
      absl::StrFormat("%-9s [%s%s] %3d %%  %s of %s%s", NameOf(progress.stage), std::string(cells, '#'),
                      std::string(kCells - cells, ' '), done * 100 / total, AmountText(progress.stage, progress.done),
                      AmountText(progress.stage, progress.total), progress.stage == Stage::kComputing ? " tiles" : "");
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (done <= first || seconds <= 0) return line;
  const double rate = static_cast<double>(done - first) / seconds;
  absl::StrAppend(&line, ", ", AmountText(progress.stage, static_cast<std::uint64_t>(rate)), "/s");
  if (done < total) absl::StrAppend(&line, ", ", HumanSeconds(static_cast<double>(total - done) / rate), " left");
  return line;
}

ProgressBar::ProgressBar() : on_terminal_(isatty(STDERR_FILENO) != 0) {}

ProgressBar::~ProgressBar() {
  if (shown_ != absl::InfinitePast()) std::cerr << "\r\x1b[K" << std::flush;
}

void ProgressBar::Show(const client::StreamProgress& progress) {
  constexpr absl::Duration kBetween = absl::Milliseconds(100);
  if (!on_terminal_) return;
  const absl::Time now = absl::Now();
  if (progress.stage == Stage::kComputing) computed_ = now;
  // Rows come while others are computed: what is computed tells more, as long as there is news of it.
  if (progress.stage == Stage::kReceiving && now - computed_ < absl::Seconds(1)) return;
  const bool begins = began_ == absl::InfinitePast() || progress.stage != stage_;
  if (begins) {
    stage_ = progress.stage;
    first_ = progress.done;
    began_ = now;
  }
  if (!begins && now - shown_ < kBetween && progress.done < progress.total) return;
  shown_ = now;
  std::cerr << "\r" << ProgressLine(progress, first_, now - began_) << "\x1b[K" << std::flush;
}

}  // namespace headlight::cli
