// The stages of a call and the time each took.
#ifndef HEADLIGHT_SERVER_BASE_STAGE_H_
#define HEADLIGHT_SERVER_BASE_STAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace headlight {

enum class Stage : std::uint8_t { kDecode, kQueue, kProject, kAttend, kMaps, kEncode };
inline constexpr int kStages = 6;

constexpr absl::string_view NameOf(Stage stage) {
  constexpr std::array<absl::string_view, kStages> kNames = {"decode", "queue", "project", "attend", "maps", "encode"};
  return kNames[static_cast<std::size_t>(stage)];
}

// Seconds by stage. Not thread-safe.
class StageTimes {
 public:
  double& operator[](Stage stage) { return seconds_[static_cast<std::size_t>(stage)]; }
  double operator[](Stage stage) const { return seconds_[static_cast<std::size_t>(stage)]; }

 private:
  std::array<double, kStages> seconds_{};
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BASE_STAGE_H_
