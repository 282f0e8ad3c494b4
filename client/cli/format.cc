#include "client/cli/format.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace headlight::cli {
namespace {

bool IsContinuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

// The bytes of the first `columns` code points.
absl::string_view Prefix(absl::string_view text, int columns) {
  std::size_t end = 0;
  while (end < text.size()) {
    if (!IsContinuation(text[end]) && columns-- == 0) break;
    ++end;
  }
  return text.substr(0, end);
}

}  // namespace

std::string HumanBytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string HumanSeconds(double seconds) {
  if (seconds < 1e-3) return absl::StrFormat("%.0f us", seconds * 1e6);
  if (seconds < 1) return absl::StrFormat("%.1f ms", seconds * 1e3);
  return absl::StrFormat("%.2f s", seconds);
}

std::string HumanFlops(std::uint64_t flops) { return absl::StrFormat("%.3g GFLOP", static_cast<double>(flops) / 1e9); }

std::string HumanRate(std::uint64_t flops, double seconds) {
  if (seconds <= 0) return "-";
  return absl::StrFormat("%.1f GFLOP/s", static_cast<double>(flops) / seconds / 1e9);
}

std::string ShapeText(absl::Span<const std::int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string Printable(absl::string_view text) {
  std::string clean(text);
  for (std::size_t i = 0; i < clean.size(); ++i) {
    const auto byte = static_cast<unsigned char>(clean[i]);
    if (byte < 0x20 || byte == 0x7f) clean[i] = '?';
    // U+0080 to U+009F are the bytes C2 80 to C2 9F.
    const bool c1 = byte == 0xc2 && i + 1 < clean.size() && static_cast<unsigned char>(clean[i + 1]) < 0xa0;
    if (c1) clean.replace(i, 2, "?");
  }
  return clean;
}

int Width(absl::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char byte) { return !IsContinuation(byte); }));
}

std::string Fit(absl::string_view text, int width, Pad pad) {
  const int taken = Width(text);
  if (taken > width) return absl::StrCat(Prefix(text, width - 1), "~");
  const std::string spaces(static_cast<std::size_t>(width - taken), ' ');
  return pad == Pad::kLeft ? absl::StrCat(spaces, text) : absl::StrCat(text, spaces);
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<int> widths(rows.empty() ? 0 : rows.front().size(), 0);
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], Width(row[c]));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      absl::StrAppend(&line, c == 0 ? "" : "  ", Fit(row[c], widths[c], c == 0 ? Pad::kRight : Pad::kLeft));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace headlight::cli
