#include "server/admission/fair_clock.h"

#include <algorithm>
#include <functional>

namespace headlight {

std::int64_t FairClock::Begin(std::int64_t expected) {
  const std::int64_t due = now() + expected;
  dues_.push_back(due);
  std::push_heap(dues_.begin(), dues_.end(), std::greater<>());
  return due;
}

void FairClock::Advance(std::int64_t service) {
  auto left = static_cast<double>(service);
  while (left > 0 && !dues_.empty()) {
    const auto sharing = static_cast<double>(dues_.size());
    const double until_first = std::max(static_cast<double>(dues_.front()) - now_, 0.0) * sharing;
    if (left < until_first) {
      now_ += left / sharing;
      return;
    }
    now_ = std::max(now_, static_cast<double>(dues_.front()));
    left -= until_first;
    std::pop_heap(dues_.begin(), dues_.end(), std::greater<>());
    dues_.pop_back();
  }
}

void FairClock::Exceed(std::int64_t service, std::int64_t calls) {
  if (dues_.empty()) now_ += static_cast<double>(service) / static_cast<double>(calls);
}

void FairClock::GiveUp(std::int64_t due) {
  const auto found = std::find(dues_.begin(), dues_.end(), due);
  if (found == dues_.end()) return;
  *found = dues_.back();
  dues_.pop_back();
  std::make_heap(dues_.begin(), dues_.end(), std::greater<>());
}

}  // namespace headlight
