#include "server/faults/fault.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace headlight {
namespace {

enum class Action { kNone, kWait, kError, kBadAlloc };

struct Rule {
  Action action = Action::kNone;
  absl::Duration wait;
  double probability = 1;
  std::uint32_t passed = 0;
};

// What tells that a file is another than before.
using Version = std::pair<std::int64_t, std::int64_t>;  // time of change in nanoseconds, inode

class Faults {
 public:
  static Faults& Instance() {
    static Faults* faults = new Faults;
    return *faults;
  }

  void Pass(std::size_t point) {
    Rule rule;
    Version read;
    {
      const absl::MutexLock lock(&mutex_);
      ReadIfChanged();
      read = version_;
      if (Spared(point)) return;
      rule = rules_[point];
    }
    if (rule.action == Action::kError) throw std::runtime_error("a fault on purpose");
    if (rule.action == Action::kBadAlloc) throw std::bad_alloc();
    const absl::Time end = absl::Now() + rule.wait;
    while (absl::Now() < end && VersionNow() == read) {
      absl::SleepFor(std::min(absl::Milliseconds(5), end - absl::Now()));
    }
  }

 private:
  Version VersionNow() const {
    struct stat seen {};
    if (stat(path_.c_str(), &seen) != 0) return {0, 0};
    return {seen.st_mtim.tv_sec * 1'000'000'000 + seen.st_mtim.tv_nsec, static_cast<std::int64_t>(seen.st_ino)};
  }

  bool Spared(std::size_t point) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Rule& rule = rules_[point];
    if (rule.action == Action::kNone) return true;
    std::seed_seq seeds{seed_, static_cast<std::uint32_t>(point), rule.passed++};
    std::mt19937 engine(seeds);
    return std::uniform_real_distribution<double>(0, 1)(engine) >= rule.probability;
  }

  void ReadIfChanged() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Version now = VersionNow();
    if (now == version_) return;
    version_ = now;
    rules_ = {};
    std::ifstream file(path_);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    for (const absl::string_view word : absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
      if (Understood(word)) continue;
      std::fprintf(stderr, "HEADLIGHT_FAULT_FILE: not understood: %s\n", std::string(word).c_str());
      std::_Exit(70);
    }
  }

  bool Understood(absl::string_view word) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
    if (parts.first == "seed") return absl::SimpleAtoi(parts.second, &seed_);
    const std::pair<absl::string_view, absl::string_view> what = absl::StrSplit(parts.second, absl::MaxSplits('@', 1));
    for (std::size_t i = 0; i < kFaultPoints.size(); ++i) {
      if (kFaultPoints[i] != parts.first) continue;
      Rule& rule = rules_[i];
      rule.action = what.first == "error"       ? Action::kError
                    : what.first == "bad_alloc" ? Action::kBadAlloc
                                                : Action::kWait;
      const bool waits = rule.action != Action::kWait || absl::ParseDuration(what.first, &rule.wait);
      return waits && (what.second.empty() || absl::SimpleAtod(what.second, &rule.probability));
    }
    return false;
  }

  const std::string path_ = [] {
    const char* path = std::getenv("HEADLIGHT_FAULT_FILE");
    return std::string(path == nullptr ? "" : path);
  }();
  absl::Mutex mutex_;
  Version version_ ABSL_GUARDED_BY(mutex_){-1, -1};
  std::uint32_t seed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::array<Rule, kFaultPoints.size()> rules_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

void Fault(std::size_t point) { Faults::Instance().Pass(point); }

}  // namespace headlight
