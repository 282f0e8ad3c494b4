#include "server/admission/cost.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace headlight {
namespace {

// What the smallest call takes: its phases and its way through the pool.
constexpr double kOverheadSeconds = 60e-6;
// Products of a unit of work, as the engine cuts them.
constexpr double kUnitFlops = 32e6;
constexpr double kReferenceFlopsPerSecond = 1e9;
constexpr double kStep = 0.2;
// A single observation changes a rate by no more than this factor before kStep: a stolen processor is no new rate.
constexpr double kMostChange = 4;

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
  return kOverheadSeconds + AttentionSeconds(cost) +
         static_cast<double>(cost.reference_flops) / reference_.flops_per_second;
}

double CostModel::Lanes(const CallCost& cost, int workers) {
  const double units = static_cast<double>(cost.flops) / kUnitFlops + static_cast<double>(cost.reference_flops) / 1e6;
  return std::clamp(units, 1.0, static_cast<double>(workers));
}

void CostModel::Move(Rate& rate, double observed) {
  const double change = std::clamp(observed / rate.flops_per_second, 1 / kMostChange, kMostChange);
  const double half = std::pow(change, kStep / 2);
  for (auto& of_kind : rates_) {
    for (Rate& other : of_kind) other.flops_per_second *= half;
  }
  reference_.flops_per_second *= half;
  rate.flops_per_second *= half;
}

void CostModel::Learn(const CallCost& cost, double worker_seconds) {
  const absl::MutexLock lock(&mutex_);
  const double attention = AttentionSeconds(cost);
  const double reference = static_cast<double>(cost.reference_flops) / reference_.flops_per_second;
  // What was not the larger part says nothing about its rate.
  if (reference > attention) {
    const double seconds = worker_seconds - kOverheadSeconds - attention;
    if (seconds <= 0) return;
    const double observed = static_cast<double>(cost.reference_flops) / seconds;
    if (reference_.learned) return Move(reference_, observed);
    reference_ = {observed, true};
    return;
  }
  const double seconds = worker_seconds - kOverheadSeconds - reference;
  if (seconds <= kOverheadSeconds || attention <= 0) return;
  const double observed = static_cast<double>(cost.flops) / seconds;
  auto& of_kind = rates_[static_cast<std::size_t>(cost.kind)];
  Rate& rate = of_kind[static_cast<std::size_t>(SizeClassOf(cost.flops))];
  if (rate.learned) return Move(rate, observed);
  for (Rate& other : of_kind) {
    if (!other.learned) other.flops_per_second = observed;
  }
  rate.learned = true;
}

}  // namespace headlight
