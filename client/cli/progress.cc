#include "client/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
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

// What follows the share, as far as there is room for it.
std::vector<std::string> PartsOf(const client::StreamProgress& progress, std::uint64_t first, absl::Duration elapsed) {
  const std::uint64_t total = std::max<std::uint64_t>(progress.total, 1);
  const std::uint64_t done = std::min(progress.done, total);
  std::vector<std::string> parts = {absl::StrCat("  ", AmountText(progress.stage, progress.done), " of ",
                                                 AmountText(progress.stage, progress.total),
                                                 progress.stage == Stage::kComputing ? " tiles" : "")};
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (done <= first || seconds <= 0) return parts;
  const double rate = static_cast<double>(done - first) / seconds;
  parts.push_back(absl::StrCat(", ", AmountText(progress.stage, static_cast<std::uint64_t>(rate)), "/s"));
  if (done < total) {
    parts.push_back(absl::StrCat(", ", HumanSeconds(static_cast<double>(total - done) / rate), " left"));
  }
  return parts;
}

std::size_t TerminalColumns() {
  constexpr std::size_t kUsual = 80;
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsual;
}

}  // namespace

std::string ProgressLine(const client::StreamProgress& progress, std::uint64_t first, absl::Duration elapsed,
                         std::size_t columns) {
  constexpr std::size_t kMostCells = 24, kLeastCells = 8;
  const std::size_t room = std::max<std::size_t>(columns, 1) - 1;
  const std::uint64_t total = std::max<std::uint64_t>(progress.total, 1);
  const std::uint64_t done = std::min(progress.done, total);
  const std::string name = absl::StrFormat("%-9s ", NameOf(progress.stage));
  const std::string share = absl::StrFormat(" %3d %%", done * 100 / total);
  std::vector<std::string> parts = PartsOf(progress, first, elapsed);
  for (;; parts.pop_back()) {
    const std::string rest = absl::StrCat(share, absl::StrJoin(parts, ""));
    const std::size_t taken = name.size() + 2 + rest.size();
    if (taken + kLeastCells <= room) {
      const std::size_t cells = std::min(kMostCells, room - taken);
      const auto full = static_cast<std::size_t>(done * cells / total);
      return absl::StrCat(name, "[", std::string(full, '#'), std::string(cells - full, ' '), "]", rest);
    }
    if (parts.empty()) return absl::StrCat(name, share).substr(0, room);
  }
}

ProgressBar::ProgressBar() : on_terminal_(isatty(STDERR_FILENO) != 0) {}

ProgressBar::~ProgressBar() {
  if (shown_ != absl::InfinitePast()) std::cerr << "\r\x1b[K" << std::flush;
}

void ProgressBar::Show(const client::StreamProgress& progress) {
  constexpr absl::Duration kBetween = absl::Milliseconds(100);
  if (!on_terminal_) return;
  const absl::Time now = absl::Now();
  if (progress.stage == Stage::kComputing) computing_ = progress.done < progress.total;
  if (progress.stage == Stage::kReceiving && computing_) return;
  const bool begins = began_ == absl::InfinitePast() || progress.stage != stage_;
  if (begins) {
    stage_ = progress.stage;
    first_ = progress.done;
    began_ = now;
  }
  if (!begins && now - shown_ < kBetween && progress.done < progress.total) return;
  shown_ = now;
  std::cerr << "\r" << ProgressLine(progress, first_, now - began_, TerminalColumns()) << "\x1b[K" << std::flush;
}

}  // namespace headlight::cli
