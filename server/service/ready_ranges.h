// Which bytes of a result are there and were not yet sent.
#ifndef HEADLIGHT_SERVER_SERVICE_READY_RANGES_H_
#define HEADLIGHT_SERVER_SERVICE_READY_RANGES_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

#include "server/problem/options.h"

namespace headlight {

// Neighbours are one range. Not thread-safe.
class ReadyRanges {
 public:
  // REQUIRES: not empty, and nothing of it was added before. Returns the size of what it is part of now.
  std::int64_t Add(Range range) {
    auto next = ranges_.lower_bound(range.begin);
    if (next != ranges_.end() && next->first == range.end) {
      range.end = next->second;
      next = ranges_.erase(next);
    }
    if (next != ranges_.begin() && std::prev(next)->second == range.begin) {
      const auto before = std::prev(next);
      before->second = range.end;
      return before->second - before->first;
    }
    ranges_.emplace_hint(next, range.begin, range.end);
    return range.size();
  }

  // Takes the first `most` of the first range that has at least `least`; nullopt: there is none.
  std::optional<Range> Take(std::int64_t least, std::int64_t most) {
    const auto found = std::find_if(ranges_.begin(), ranges_.end(),
                                    [least](const auto& range) { return range.second - range.first >= least; });
    if (found == ranges_.end()) return std::nullopt;
    const Range whole{found->first, found->second};
    const Range taken{whole.begin, std::min(whole.end, whole.begin + most)};
    const auto next = ranges_.erase(found);
    if (taken.end < whole.end) ranges_.emplace_hint(next, taken.end, whole.end);
    return taken;
  }

  bool empty() const { return ranges_.empty(); }

 private:
  std::map<std::int64_t, std::int64_t> ranges_;  // begin to end; apart from each other
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_READY_RANGES_H_
