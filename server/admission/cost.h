// What calls will take, in seconds of one worker: estimated from their plans, at rates that follow what calls took.
#ifndef HEADLIGHT_SERVER_ADMISSION_COST_H_
#define HEADLIGHT_SERVER_ADMISSION_COST_H_

#include <array>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/base/size_class.h"

namespace headlight {

// What computes; each goes at a rate of its own.
enum class CostKind : std::uint8_t { kNaive, kFlash, kFlashBF16 };
inline constexpr int kCostKinds = 3;

struct CallCost {
  CostKind kind = CostKind::kFlash;
  std::int64_t flops = 0;            // what maps take included
  std::int64_t reference_flops = 0;  // of the double reference
  std::int64_t bytes = 0;            // request, workspace with all workers, answer
  absl::string_view field;           // what a refusal names; static text
};

// Thread-safe.
class CostModel {
 public:
  // Until calls were learned from, `flops_per_second` is the rate of all.
  explicit CostModel(double flops_per_second = 2e10);

  // Of one worker that does all of it.
  double WorkerSeconds(const CallCost& cost) const;

  // How many workers can be at it at once, at least 1: no more than it has units of work.
  static double Lanes(const CallCost& cost, int workers);

  // A call of this cost took so many seconds of workers' time. It teaches what most of its time went to: the overhead
  // of any call, the rate of its class, or that of the reference. The first of a kind sets the rates of all its
  // classes; then what is taught moves a fifth of the way. What changes for medium and large calls is mostly the
  // machine's load, so they move each other half as far. Small ones differ too much among themselves for that: they
  // only tell how slow the larger of their kind cannot be.
  void Learn(const CallCost& cost, double worker_seconds);

 private:
  struct Rate {
    double flops_per_second = 0;
    bool learned = false;
  };

  double AttentionSeconds(const CallCost& cost) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LearnRate(const CallCost& cost, double seconds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::array<std::array<Rate, kSizeClasses>, kCostKinds> rates_ ABSL_GUARDED_BY(mutex_);
  Rate reference_ ABSL_GUARDED_BY(mutex_);
  // What the smallest call takes: its phases and its way through the pool.
  double overhead_seconds_ ABSL_GUARDED_BY(mutex_) = 60e-6;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ADMISSION_COST_H_
