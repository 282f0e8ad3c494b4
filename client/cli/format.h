// Numbers and tables for people.
#ifndef HEADLIGHT_CLIENT_CLI_FORMAT_H_
#define HEADLIGHT_CLIENT_CLI_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace headlight::cli {

// "512 B", "1.5 KiB", "128.0 MiB", "3.2 GiB".
std::string HumanBytes(std::uint64_t bytes);

// "412 us", "12.3 ms", "1.25 s".
std::string HumanSeconds(double seconds);

// FLOPs: "0.012 GFLOP", "206.2 GFLOP".
std::string HumanFlops(std::uint64_t flops);

// FLOPs per second in units of 1e9: "45.6 GFLOP/s"; "-" where the time is 0.
std::string HumanRate(std::uint64_t flops, double seconds);

// "[1, 8, 2048, 64]".
std::string ShapeText(absl::Span<const std::int64_t> shape);

// `text` without what could steer a terminal: control characters, C1 ones in UTF-8 included, become '?'.
std::string Printable(absl::string_view text);

// Columns that `text` takes: its code points, each counted as one.
int Width(absl::string_view text);

// `text` in exactly `width` columns: cut with "~" where it is longer, else padded with spaces at the given side.
enum class Pad { kLeft, kRight };
std::string Fit(absl::string_view text, int width, Pad pad);

// Rows of cells as lines with aligned columns: the first column to the left, the others to the right. Every row has
// the cells of the first at most.
std::string Table(const std::vector<std::vector<std::string>>& rows);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_FORMAT_H_
