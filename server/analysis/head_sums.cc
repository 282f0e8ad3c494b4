#include "server/analysis/head_sums.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"
#include "server/kernels/entropy.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

// Weights that a step looks at, some times over: a part of a millisecond with the slowest kernels.
constexpr std::int64_t kStepWeights = std::int64_t{1} << 18;
// What a weight costs in multiply-adds: a logarithm and some products; and in a pair of heads a logarithm.
constexpr std::int64_t kFlopsOfWeight = 64;
constexpr std::int64_t kFlopsOfPair = 32;

}  // namespace

EarlierTokens::EarlierTokens(absl::Span<const std::int64_t> ids)
    : places_(ids.size()), begin_(ids.size()), slot_(ids.size()) {
  std::iota(places_.begin(), places_.end(), 0);
  // Not a hash map: its time would be the caller's to choose.
  std::sort(places_.begin(), places_.end(), [&ids](std::int32_t a, std::int32_t b) {
    const std::int64_t of_a = ids[static_cast<std::size_t>(a)];
    const std::int64_t of_b = ids[static_cast<std::size_t>(b)];
    return of_a != of_b ? of_a < of_b : a < b;
  });
  std::size_t begin = 0;
  for (std::size_t s = 0; s < places_.size(); ++s) {
    const auto place = static_cast<std::size_t>(places_[s]);
    if (ids[static_cast<std::size_t>(places_[begin])] != ids[place]) begin = s;
    begin_[place] = static_cast<std::int32_t>(begin);
    slot_[place] = static_cast<std::int32_t>(s);
  }
}

absl::Span<const std::int32_t> EarlierTokens::Of(std::int64_t i) const {
  if (places_.empty()) return {};
  const auto place = static_cast<std::size_t>(i);
  const auto begin = static_cast<std::size_t>(begin_[place]);
  return absl::MakeConstSpan(places_).subspan(begin, static_cast<std::size_t>(slot_[place]) - begin);
}

HeadSumsSink::HeadSumsSink(const HeadRowsPlan& plan, SequenceTokens tokens, MemoryAccount& account, HeadTotals& totals)
    : plan_(plan),
      tokens_(tokens),
      account_(account),
      totals_(totals),
      heads_(plan.plan.spec.dims.query_heads),
      count_(plan.plan.spec.dims.query_tokens),
      keys_(plan.plan.spec.KeyLength(0)) {}

std::int64_t HeadSumsSink::Flops(const HeadRowsPlan& plan) {
  const std::int64_t heads = plan.plan.spec.dims.query_heads;
  return plan.pairs * (heads * kFlopsOfWeight + heads * (heads - 1) / 2 * kFlopsOfPair);
}

std::int64_t HeadSumsSink::Bytes(const HeadRowsPlan& plan) {
  const std::int64_t heads = plan.plan.spec.dims.query_heads;
  const std::int64_t tokens = plan.plan.spec.dims.query_tokens;
  const auto size = [](std::size_t bytes) { return static_cast<std::int64_t>(bytes); };
  const std::int64_t chain = heads * size(sizeof(HeadSums)) + heads * (heads - 1) / 2 * size(sizeof(PairSums)) +
                             heads * plan.rows * size(sizeof(double)) + tokens * size(sizeof(float));
  return plan.chains * chain + tokens * (2 * size(sizeof(float)) + 3 * size(sizeof(std::int32_t)));
}

void HeadSumsSink::Begin(std::int64_t chains) {
  chains_ = chains;
  earlier_ = EarlierTokens(tokens_.ids);
  distances_ = FloatBuffer(account_, MemoryUse::kScratch, 2 * count_ - 1);
  for (std::int64_t x = 0; x < 2 * count_ - 1; ++x) {
    distances_.data()[x] = static_cast<float>(std::abs(x - (count_ - 1)));
  }
  head_sums_ = Buffer<HeadSums>(account_, MemoryUse::kScratch, chains * heads_);
  std::uninitialized_fill_n(head_sums_.data(), chains * heads_, HeadSums());
  pair_sums_ = Buffer<PairSums>(account_, MemoryUse::kScratch, chains * pair_count());
  std::uninitialized_fill_n(pair_sums_.data(), chains * pair_count(), PairSums());
  log_sums_ = Buffer<double>(account_, MemoryUse::kScratch, chains * heads_ * plan_.rows);
  if (tokens_.pattern != nullptr) patterns_ = FloatBuffer(account_, MemoryUse::kScratch, chains * count_);
}

HeadSumsSink::Chain HeadSumsSink::ChainAt(std::int64_t chain) const {
  return {head_sums_.data() + chain * heads_, pair_sums_.data() + chain * pair_count(),
          log_sums_.data() + chain * heads_ * plan_.rows,
          tokens_.pattern == nullptr ? nullptr : patterns_.data() + chain * count_};
}

absl::StatusOr<bool> HeadSumsSink::OnRows(std::int64_t chain_index, const HeadRows& rows, std::int64_t step) {
  const Chain chain = ChainAt(chain_index);
  const std::int64_t count = rows.rows.size();
  const std::int64_t at_once = std::max<std::int64_t>(kStepWeights / rows.keys.size(), 1);
  const std::int64_t steps_of_heads = CeilDiv(count * heads_, at_once);
  // Rows outermost: those of all heads meet while they are in the cache.
  if (step < steps_of_heads) {
    const std::int64_t end = std::min((step + 1) * at_once, count * heads_);
    for (std::int64_t item = step * at_once; item < end; ++item) {
      const std::int64_t r = item / heads_;
      if (item % heads_ == 0 && chain.pattern != nullptr) {
        if (absl::Status status = ReadPattern(rows.rows.begin + r, chain.pattern); !status.ok()) return status;
      }
      AddRow(rows, item % heads_, r, chain);
    }
    return end < count * heads_ || pair_count() > 0;
  }
  const std::int64_t all = count * pair_count();
  const std::int64_t begin = (step - steps_of_heads) * at_once;
  const std::int64_t end = std::min(begin + at_once, all);
  std::int64_t head = 0;
  std::int64_t other = begin % pair_count() + 1;
  while (other >= heads_) other -= heads_ - ++head - 1;
  for (std::int64_t item = begin; item < end; ++item) {
    AddDivergence(rows, head, other, item / pair_count(), chain, chain.pairs[item % pair_count()]);
    if (++other < heads_) continue;
    if (++head == heads_ - 1) head = 0;
    other = head + 1;
  }
  return end < all;
}

absl::Status HeadSumsSink::ReadPattern(std::int64_t row, float* out) const {
  const std::byte* bytes = tokens_.pattern + row * count_;
  for (std::int64_t j = 0; j < count_; ++j) {
    const int value = std::to_integer<int>(bytes[j]);
    if (value > 1) {
      Violations violations;
      violations.Add("pattern", absl::StrCat(value, " at [", row, ", ", j, "]"), "0 or 1");
      return violations.ToStatus();
    }
    out[j] = static_cast<float>(value);
  }
  return absl::OkStatus();
}

void HeadSumsSink::AddRow(const HeadRows& rows, std::int64_t head, std::int64_t r, const Chain& chain) const {
  const RowEnd& end = rows.End(head, r);
  if (end.keys == 0) return;
  const std::int64_t begin = rows.keys.begin;
  const std::int64_t n = rows.keys.size();
  const float* weights = rows.Row(head, r) + begin;
  const double log_sum = MixedLogSum(weights, weights, n);
  chain.log_sums[r * heads_ + head] = log_sum;
  HeadSums& sums = chain.heads[head];
  ++sums.rows;
  sums.entropy -= log_sum;
  sums.uniform_entropy += std::log(static_cast<double>(end.keys));
  // The largest of NaNs is none.
  sums.largest += static_cast<double>(std::isnan(end.sum) ? end.sum : RowMax(weights, n));
  sums.weight += static_cast<double>(end.sum);
  const float* distances = distances_.data() + count_ - 1 - (rows.rows.begin + r) + begin;
  sums.distance += DotInDouble(weights, distances, n);
  if (chain.pattern != nullptr) sums.pattern += DotInDouble(weights, chain.pattern + begin, n);
  AddLooks({rows, head, r, DotInDouble(weights, rows.ValueLengths(head) + begin, n)}, sums);
}

void HeadSumsSink::AddLooks(const Row& row, HeadSums& sums) const {
  const auto i = static_cast<std::int32_t>(row.rows.rows.begin + row.r);
  const std::int32_t first = 0;
  const auto last = static_cast<std::int32_t>(keys_ - 1);
  AddLook(Look::kPrevious, row, {&i, 1}, -1, sums);
  AddLook(Look::kSame, row, {&i, 1}, 0, sums);
  AddLook(Look::kFirst, row, {&first, 1}, 0, sums);
  AddLook(Look::kLast, row, {&last, 1}, 0, sums);
  AddLook(Look::kDuplicate, row, earlier_.Of(i), 0, sums);
  AddLook(Look::kInduction, row, earlier_.Of(i), 1, sums);
}

void HeadSumsSink::AddLook(Look look, const Row& row, absl::Span<const std::int32_t> keys, std::int32_t step,
                           HeadSums& sums) const {
  const float* weights = row.rows.Row(row.head, row.r);
  const float* lengths = row.rows.ValueLengths(row.head);
  std::int64_t there = 0;
  std::int64_t seen = 0;
  double on = 0;
  double by_value = 0;
  for (const std::int32_t place : keys) {
    const std::int64_t key = place + step;
    if (key < 0 || key >= keys_) continue;
    ++there;
    if (key < row.rows.keys.begin || key >= row.rows.keys.end) continue;
    seen += weights[key] > 0 ? 1 : 0;
    on += static_cast<double>(weights[key]);
    by_value += static_cast<double>(weights[key]) * static_cast<double>(lengths[key]);
  }
  if (there == 0) return;
  const auto at = static_cast<std::size_t>(look);
  sums.on[at] += on;
  sums.evenly[at] += static_cast<double>(seen) / static_cast<double>(row.rows.End(row.head, row.r).keys);
  ++sums.rows_with[at];
  if (row.value_sum == 0) return;
  sums.by_value[at] += by_value / row.value_sum;
  ++sums.rows_by_value[at];
}

void HeadSumsSink::AddDivergence(const HeadRows& rows, std::int64_t head, std::int64_t other, std::int64_t r,
                                 const Chain& chain, PairSums& sums) {
  if (rows.End(head, r).keys == 0 || rows.End(other, r).keys == 0) return;
  const double* log_sums = chain.log_sums + r * rows.heads;
  const double apart = (log_sums[head] + log_sums[other]) / 2;
  const double together =
      MixedLogSum(rows.Row(head, r) + rows.keys.begin, rows.Row(other, r) + rows.keys.begin, rows.keys.size());
  const double divergence = apart - together;
  sums.divergence += divergence < 0 ? 0 : divergence;
  ++sums.rows;
}

void HeadSumsSink::End() {
  std::vector<HeadSums> heads(static_cast<std::size_t>(heads_));
  std::vector<PairSums> pairs(static_cast<std::size_t>(pair_count()));
  for (std::int64_t c = 0; c < chains_; ++c) {
    const Chain chain = ChainAt(c);
    for (std::size_t h = 0; h < heads.size(); ++h) heads[h].Add(chain.heads[h]);
    for (std::size_t p = 0; p < pairs.size(); ++p) {
      pairs[p].divergence += chain.pairs[p].divergence;
      pairs[p].rows += chain.pairs[p].rows;
    }
  }
  totals_.AddSequence(heads, pairs, !tokens_.ids.empty(), tokens_.pattern != nullptr);
  earlier_ = {};
  distances_ = {};
  patterns_ = {};
  head_sums_ = {};
  pair_sums_ = {};
  log_sums_ = {};
}

}  // namespace headlight
