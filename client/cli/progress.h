// How far a long call is, for the person who waits for it.
#ifndef HEADLIGHT_CLIENT_CLI_PROGRESS_H_
#define HEADLIGHT_CLIENT_CLI_PROGRESS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "client/cpp/streaming.h"

namespace headlight::cli {

// One line: "sending   [####    ]  50 %  512.0 MiB of 1.0 GiB, 800.0 MiB/s, 640 ms left". The stage was first seen
// `elapsed` ago, with `first` done. It takes fewer than `columns` columns: a terminal of so many does not wrap it.
// Where they are few, the bar is shorter, and then what stands last is left out.
std::string ProgressLine(const client::StreamProgress& progress, std::uint64_t first, absl::Duration elapsed,
                         std::size_t columns);

// Keeps a line on standard error up to date where that is a terminal, at most ten times a second; elsewhere it does
// nothing. What comes is told once all is computed: until then it is a part of what is computed. Its end takes the line
// away. Not thread-safe.
class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Show(const client::StreamProgress& progress);

 private:
  const bool on_terminal_;
  client::StreamProgress::Stage stage_ = client::StreamProgress::Stage::kSending;
  std::uint64_t first_ = 0;                  // what was done when the stage was first seen
  absl::Time began_ = absl::InfinitePast();  // when that was
  absl::Time shown_ = absl::InfinitePast();  // last
  bool computing_ = false;                   // it was told, and not yet that it is complete
};

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_PROGRESS_H_
