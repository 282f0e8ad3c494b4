#include "server/admission/cost.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace headlight {
namespace {

// What the smallest call can take.
constexpr double kLeastOverhead = 10e-6;
constexpr double kMostOverhead = 1e-3;
// Products of a unit of work, as the engine cuts them.
constexpr double kUnitFlops = 32e6;
constexpr double kReferenceFlopsPerSecond = 1e9;
constexpr double kStep = 0.2;
// A single observation changes a rate by no more than this factor before kStep: a stolen processor is no new rate.
constexpr double kMostChange = 4;
// The rate of the larger calls of a kind is at least this much of the small ones': they have less beside their
// products. Naive's large grids leave the caches.
constexpr double kLeastOfSmall = 0.4;

// By how much what is `now` changes where `observed` was seen.
double ChangeTowards(double observed, double now) {
  return std::pow(std::clamp(observed / now, 1 / kMostChange, kMostChange), kStep);
}

}  // namespace

CostModel::CostModel(double flops_per_second) {
  for (auto& of_kind : rates_) of_kind.fill({flops_per_second, false});
  reference_.flops_per_second = kReferenceFlopsPerSecond;
}

double CostModel::AttentionSeconds(const CallCost& cost) const {
  const auto kind = static_cast<std::size_t>(cost.kind);
  const auto size = static_cast<std::size_t>(SizeClassOf(cost.flops));
  return static_cast<double>(cost.flops) / rates_[kind][size].flops_per_second;
}

double CostModel::WorkerSeconds(const CallCost& cost) const {
  const absl::MutexLock lock(&mutex_);
  return overhead_seconds_ + AttentionSeconds(cost) +
         static_cast<double>(cost.reference_flops) / reference_.flops_per_second;
}

double CostModel::Lanes(const CallCost& cost, int workers) {
  const double units = static_cast<double>(cost.flops) / kUnitFlops + static_cast<double>(cost.reference_flops) / 1e6;
  return std::clamp(units, 1.0, static_cast<double>(workers));
}

void CostModel::LearnRate(const CallCost& cost, double seconds) {
  const double observed = static_cast<double>(cost.flops) / seconds;
  auto& of_kind = rates_[static_cast<std::size_t>(cost.kind)];
  const SizeClass size = SizeClassOf(cost.flops);
  Rate& rate = of_kind[static_cast<std::size_t>(size)];
  if (!rate.learned) {
    for (Rate& other : of_kind) {
      if (!other.learned) other.flops_per_second = observed;
    }
    rate.learned = true;
    return;
  }
  const double change = ChangeTowards(observed, rate.flops_per_second);
  rate.flops_per_second *= change;
  if (size == SizeClass::kSmall) {
    const double least = kLeastOfSmall * rate.flops_per_second;
    for (Rate& of_class : of_kind) of_class.flops_per_second = std::max(of_class.flops_per_second, least);
  } else {
    const SizeClass other = size == SizeClass::kLarge ? SizeClass::kMedium : SizeClass::kLarge;
    of_kind[static_cast<std::size_t>(other)].flops_per_second *= std::sqrt(change);
  }
}

void CostModel::Learn(const CallCost& cost, double worker_seconds) {
  const absl::MutexLock lock(&mutex_);
  const double attention = AttentionSeconds(cost);
  const double reference = static_cast<double>(cost.reference_flops) / reference_.flops_per_second;
  // What was not the larger part says nothing about its rate.
  if (overhead_seconds_ >= std::max(attention, reference)) {
    const double observed = std::max(worker_seconds - attention - reference, kLeastOverhead);
    overhead_seconds_ *= ChangeTowards(observed, overhead_seconds_);
    overhead_seconds_ = std::min(overhead_seconds_, kMostOverhead);
  } else if (reference > attention) {
    const double seconds = worker_seconds - overhead_seconds_ - attention;
    if (seconds <= 0) return;
    const double observed = static_cast<double>(cost.reference_flops) / seconds;
    const double change = ChangeTowards(observed, reference_.flops_per_second);
    reference_ = {reference_.learned ? reference_.flops_per_second * change : observed, true};
  } else if (worker_seconds > overhead_seconds_ + reference) {
    LearnRate(cost, worker_seconds - overhead_seconds_ - reference);
  }
}

}  // namespace headlight
