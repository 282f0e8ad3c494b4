#include "server/analysis/head_report.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace headlight {
namespace {

constexpr std::size_t At(Look look) { return static_cast<std::size_t>(look); }

double Mean(double sum, std::int64_t rows) { return rows == 0 ? 0 : sum / static_cast<double>(rows); }

Looks Means(const Looks& sums, const std::array<std::int64_t, kLooks>& rows) {
  Looks means;
  for (std::size_t i = 0; i < kLooks; ++i) means[i] = Mean(sums[i], rows[i]);
  return means;
}

constexpr Habit kHabits[kLooks] = {Habit::kPreviousToken, Habit::kSameToken,      Habit::kFirstToken,
                                   Habit::kLastToken,     Habit::kDuplicateToken, Habit::kInduction};

absl::string_view WordsOf(Habit habit) {
  switch (habit) {
    case Habit::kNone: return "nothing stands out";
    case Habit::kPreviousToken: return "looks one step back";
    case Habit::kSameToken: return "looks at the token itself";
    case Habit::kFirstToken: return "looks at the first token";
    case Habit::kDuplicateToken: return "looks at earlier occurrences of the same token";
    case Habit::kInduction: return "looks at what followed the same token before";
    case Habit::kLastToken: return "looks at the last token";
    case Habit::kSpread: return "spreads evenly over what it sees";
  }
  return "";
}

}  // namespace

void HeadSums::Add(const HeadSums& other) {
  rows += other.rows;
  entropy += other.entropy;
  uniform_entropy += other.uniform_entropy;
  largest += other.largest;
  distance += other.distance;
  weight += other.weight;
  pattern += other.pattern;
  for (std::size_t i = 0; i < kLooks; ++i) {
    on[i] += other.on[i];
    evenly[i] += other.evenly[i];
    rows_with[i] += other.rows_with[i];
    by_value[i] += other.by_value[i];
    rows_by_value[i] += other.rows_by_value[i];
  }
}

void HeadTotals::Score::Add(double on, double all) {
  if (all == 0) return;
  sum += on / all;
  ++sequences;
}

HeadTotals::HeadTotals(std::int64_t heads)
    : sums_(static_cast<std::size_t>(heads)),
      scores_(static_cast<std::size_t>(heads)),
      pairs_(static_cast<std::size_t>(heads * (heads - 1) / 2)) {}

void HeadTotals::AddSequence(const std::vector<HeadSums>& sums, const std::vector<PairSums>& pairs, bool has_tokens,
                             bool has_pattern) {
  ++sequences_;
  for (std::size_t h = 0; h < sums_.size(); ++h) {
    const HeadSums& head = sums[h];
    sums_[h].Add(head);
    scores_[h].previous.Add(head.on[At(Look::kPrevious)], head.weight);
    if (has_tokens) scores_[h].duplicate.Add(head.on[At(Look::kDuplicate)], head.weight);
    if (has_tokens) scores_[h].induction.Add(head.on[At(Look::kInduction)], head.weight);
    if (has_pattern) scores_[h].pattern.Add(head.pattern, head.weight);
  }
  for (std::size_t p = 0; p < pairs_.size(); ++p) {
    pairs_[p].divergence += pairs[p].divergence;
    pairs_[p].rows += pairs[p].rows;
  }
}

std::int64_t HeadTotals::rows() const {
  std::int64_t most = 0;
  for (const HeadSums& head : sums_) most = std::max(most, head.rows);
  return most;
}

std::vector<HeadReport> HeadTotals::Reports() const {
  std::vector<HeadReport> reports;
  for (std::size_t h = 0; h < sums_.size(); ++h) {
    const HeadSums& sums = sums_[h];
    HeadReport& report = reports.emplace_back();
    report.head = static_cast<std::int64_t>(h);
    report.mean_entropy = Mean(sums.entropy, sums.rows);
    report.mean_largest_weight = Mean(sums.largest, sums.rows);
    report.mean_distance = Mean(sums.distance, sums.rows);
    report.shares = Means(sums.on, sums.rows_with);
    report.by_value = Means(sums.by_value, sums.rows_by_value);
    report.previous_token_score = scores_[h].previous.Mean();
    report.duplicate_token_score = scores_[h].duplicate.Mean();
    report.induction_score = scores_[h].induction.Mean();
    if (scores_[h].pattern.sequences > 0) report.pattern_score = scores_[h].pattern.Mean();
    const FoundHabit habit = FindHabit(sums);
    report.habit = habit.habit;
    report.habit_score = habit.score;
    report.description = Describe(habit);
  }
  return reports;
}

std::vector<HeadDistance> HeadTotals::Distances() const {
  std::vector<HeadDistance> distances;
  std::size_t pair = 0;
  for (std::int64_t h = 0; h < heads(); ++h) {
    for (std::int64_t other = h + 1; other < heads(); ++other, ++pair) {
      distances.push_back({h, other, Mean(pairs_[pair].divergence, pairs_[pair].rows)});
    }
  }
  return distances;
}

FoundHabit FindHabit(const HeadSums& sums) {
  constexpr double kShare = 0.5;
  constexpr double kTimes = 2;
  constexpr std::int64_t kPartOfRows = 8;
  constexpr double kEven = 0.95;
  FoundHabit found;
  for (std::size_t i = 0; i < kLooks; ++i) {
    const double share = Mean(sums.on[i], sums.rows_with[i]);
    const bool stands_out = share >= kShare && sums.on[i] >= kTimes * sums.evenly[i];  // NaN does not
    const bool often = sums.rows_with[i] * kPartOfRows >= sums.rows;
    if (stands_out && often && share > found.score) found = {kHabits[i], share};
  }
  if (found.habit != Habit::kNone || sums.uniform_entropy <= 0) return found;
  const double even = sums.entropy / sums.uniform_entropy;
  if (even >= kEven) return {Habit::kSpread, std::min(even, 1.0)};
  return found;
}

std::string Describe(FoundHabit habit) {
  const std::string words(WordsOf(habit.habit));
  return habit.habit == Habit::kNone ? words : absl::StrFormat("%s, %.2f", words, habit.score);
}

std::vector<std::vector<std::int64_t>> ClustersOf(std::int64_t heads, const std::vector<HeadDistance>& distances,
                                                  double nearest) {
  // Each head points to a smaller one of its group, or to itself.
  std::vector<std::int64_t> smaller(static_cast<std::size_t>(heads));
  std::iota(smaller.begin(), smaller.end(), 0);
  const auto first_of = [&smaller](std::int64_t head) {
    while (smaller[static_cast<std::size_t>(head)] != head) head = smaller[static_cast<std::size_t>(head)];
    return head;
  };
  for (const HeadDistance& d : distances) {
    if (!(d.jensen_shannon < nearest)) continue;
    const std::int64_t a = first_of(d.head);
    const std::int64_t b = first_of(d.other);
    smaller[static_cast<std::size_t>(std::max(a, b))] = std::min(a, b);
  }
  std::vector<std::vector<std::int64_t>> groups(static_cast<std::size_t>(heads));
  for (std::int64_t head = 0; head < heads; ++head) {
    groups[static_cast<std::size_t>(first_of(head))].push_back(head);
  }
  groups.erase(std::remove_if(groups.begin(), groups.end(), [](const auto& group) { return group.size() < 2; }),
               groups.end());
  return groups;
}

}  // namespace headlight
