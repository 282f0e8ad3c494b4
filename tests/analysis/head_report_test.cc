// What heads do, against the definitions in double over the oracle's full maps.
#include "server/analysis/head_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "server/analysis/head_sums.h"
#include "tests/support/head_rows.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Bound;
using oracle::Exact;
using oracle::PlanRows;
using oracle::Problem;
using oracle::RunRows;
using oracle::Solve;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr double kNear = 2e-5;

// A problem, and what is known of its tokens.
struct Text {
  Problem problem;
  std::vector<std::int64_t> ids;  // or none
  std::vector<char> pattern;      // T x T, or none
};

Text MakeText(std::int64_t tokens, std::uint64_t seed) {
  Text text;
  Problem& p = text.problem;
  p.tq = p.tk = tokens;
  p.e = 24;
  p.eo = 20;
  p.hq = 4;
  p.hkv = 2;
  p.biases = true;
  p.scale = 2;  // far from even
  p.seed = seed;
  std::mt19937 random(static_cast<std::uint32_t>(seed));
  for (std::int64_t i = 0; i < tokens; ++i) {
    text.ids.push_back(static_cast<std::int64_t>(random() % 7) * 1'000'000'007 - 3);
  }
  return text;
}

void AddPattern(Text& text) {
  const std::int64_t tokens = text.problem.tq;
  std::mt19937 random(99);
  for (std::int64_t i = 0; i < tokens * tokens; ++i) text.pattern.push_back(random() % 3 == 0 ? 1 : 0);
}

// The definitions, pair by pair.
class Definition {
 public:
  explicit Definition(const Text& text)
      : text_(text), bound_(Bind(text.problem)), exact_(Solve(*bound_)), lengths_(oracle::ValueLengths(*bound_)) {}

  std::int64_t tokens() const { return text_.problem.tq; }
  std::int64_t keys() const { return text_.problem.key_lengths.empty() ? tokens() : text_.problem.key_lengths[0]; }
  double Weight(std::int64_t h, std::int64_t i, std::int64_t j) const {
    return exact_.weights[Place((h * tokens() + i) * tokens() + j)];
  }
  double Length(std::int64_t h, std::int64_t j) const { return lengths_[Place(h * tokens() + j)]; }
  bool Allows(std::int64_t h, std::int64_t i, std::int64_t j) const {
    return exact_.scores[Place((h * tokens() + i) * tokens() + j)] > -INFINITY;
  }
  bool Sees(std::int64_t h, std::int64_t i) const {
    for (std::int64_t j = 0; j < tokens(); ++j) {
      if (Allows(h, i, j)) return true;
    }
    return false;
  }
  bool Looked(Look look, std::int64_t i, std::int64_t j) const {
    const std::vector<std::int64_t>& ids = text_.ids;
    if (j < 0 || j >= keys()) return false;
    switch (look) {
      case Look::kPrevious: return j == i - 1;
      case Look::kSame: return j == i;
      case Look::kFirst: return j == 0;
      case Look::kLast: return j == keys() - 1;
      case Look::kDuplicate: return !ids.empty() && j < i && ids[Place(j)] == ids[Place(i)];
      case Look::kInduction: return !ids.empty() && j >= 1 && j - 1 < i && ids[Place(j - 1)] == ids[Place(i)];
    }
    return false;
  }

  // Adds the rows of one head to sums that tests divide.
  struct Sums {
    double rows = 0, entropy = 0, largest = 0, distance = 0;
    Looks on = {}, rows_with = {}, by_value = {}, rows_by_value = {};
  };
  void AddTo(std::int64_t h, Sums& sums) const {
    for (std::int64_t i = 0; i < tokens(); ++i) {
      if (!Sees(h, i)) continue;
      ++sums.rows;
      double largest = 0;
      double all_values = 0;
      for (std::int64_t j = 0; j < tokens(); ++j) {
        const double w = Weight(h, i, j);
        if (w > 0) sums.entropy -= w * std::log(w);
        largest = std::max(largest, w);
        sums.distance += w * std::fabs(static_cast<double>(i - j));
        all_values += w * Length(h, j);
      }
      sums.largest += largest;
      for (int look = 0; look < kLooks; ++look) AddLook(static_cast<Look>(look), h, i, all_values, sums);
    }
  }

  // TransformerLens' "mul".
  template <typename OnPattern>
  double Score(std::int64_t h, OnPattern on_pattern) const {
    double on = 0;
    double all = 0;
    for (std::int64_t i = 0; i < tokens(); ++i) {
      for (std::int64_t j = 0; j < tokens(); ++j) {
        all += Weight(h, i, j);
        if (on_pattern(i, j)) on += Weight(h, i, j);
      }
    }
    return on / all;
  }

  void AddDivergence(std::int64_t a, std::int64_t b, double& sum, double& rows) const {
    for (std::int64_t i = 0; i < tokens(); ++i) {
      if (!Sees(a, i) || !Sees(b, i)) continue;
      ++rows;
      for (std::int64_t j = 0; j < tokens(); ++j) {
        const double p = Weight(a, i, j);
        const double q = Weight(b, i, j);
        if (p > 0) sum += p * std::log(2 * p / (p + q)) / 2;
        if (q > 0) sum += q * std::log(2 * q / (p + q)) / 2;
      }
    }
  }

  const Bound& bound() const { return *bound_; }
  const Text& text() const { return text_; }

 private:
  static std::size_t Place(std::int64_t i) { return static_cast<std::size_t>(i); }

  void AddLook(Look look, std::int64_t h, std::int64_t i, double all_values, Sums& sums) const {
    bool there = false;
    double on = 0;
    double value = 0;
    for (std::int64_t j = 0; j < tokens(); ++j) {
      if (!Looked(look, i, j)) continue;
      there = true;
      on += Weight(h, i, j);
      value += Weight(h, i, j) * Length(h, j);
    }
    if (!there) return;
    const auto at = static_cast<std::size_t>(look);
    ++sums.rows_with[at];
    sums.on[at] += on;
    if (all_values == 0) return;
    ++sums.rows_by_value[at];
    sums.by_value[at] += value / all_values;
  }

  const Text& text_;
  std::unique_ptr<Bound> bound_;
  Exact exact_;
  std::vector<double> lengths_;
};

void Read(const Definition& text, HeadTotals& totals, int threads = 2, std::int64_t* peak = nullptr) {
  const absl::StatusOr<HeadRowsPlan> plan = PlanRows(text.bound());
  ASSERT_TRUE(plan.ok()) << plan.status();
  MemoryAccount account(nullptr);
  SequenceTokens tokens{text.text().ids};
  if (!text.text().pattern.empty()) tokens.pattern = reinterpret_cast<const std::byte*>(text.text().pattern.data());
  HeadSumsSink sink(*plan, tokens, account, totals);
  ASSERT_EQ(RunRows(*plan, text.bound(), account, sink, threads), absl::OkStatus());
  EXPECT_EQ(account.now(), 0);
  EXPECT_LE(account.peak(), plan->plan.WorkspaceTotal(threads) + HeadSumsSink::Bytes(*plan));
  if (peak != nullptr) *peak = account.peak();
}

double Ratio(double sum, double count) { return count == 0 ? 0 : sum / count; }

// Texts that heads of one layer read, and all that is told of them.
void ExpectExact(const std::vector<Text>& texts) {
  SCOPED_TRACE(texts[0].problem.Describe());
  const std::int64_t heads = texts[0].problem.hq;
  HeadTotals totals(heads);
  std::vector<Definition> definitions;
  definitions.reserve(texts.size());
  for (const Text& text : texts) Read(definitions.emplace_back(text), totals);
  const std::vector<HeadReport> reports = totals.Reports();
  ASSERT_EQ(reports.size(), static_cast<std::size_t>(heads));
  for (std::int64_t h = 0; h < heads; ++h) {
    SCOPED_TRACE(testing::Message() << "head " << h);
    const HeadReport& report = reports[static_cast<std::size_t>(h)];
    Definition::Sums sums;
    double previous = 0;
    double duplicate = 0;
    double induction = 0;
    double pattern = 0;
    double patterns = 0;
    for (const Definition& text : definitions) {
      text.AddTo(h, sums);
      const auto looked = [&](Look look) {
        return text.Score(h, [&](std::int64_t i, std::int64_t j) { return text.Looked(look, i, j); });
      };
      previous += looked(Look::kPrevious);
      duplicate += looked(Look::kDuplicate);
      induction += looked(Look::kInduction);
      if (text.text().pattern.empty()) continue;
      ++patterns;
      pattern += text.Score(h, [&](std::int64_t i, std::int64_t j) {
        return text.text().pattern[static_cast<std::size_t>(i * text.tokens() + j)] != 0;
      });
    }
    const auto count = static_cast<double>(texts.size());
    const auto with_ids = static_cast<double>(
        std::count_if(texts.begin(), texts.end(), [](const Text& text) { return !text.ids.empty(); }));
    EXPECT_EQ(report.head, h);
    EXPECT_NEAR(report.mean_entropy, sums.entropy / sums.rows, kNear);
    EXPECT_NEAR(report.mean_largest_weight, sums.largest / sums.rows, kNear);
    EXPECT_NEAR(report.mean_distance, sums.distance / sums.rows, 1e-5 * (1 + sums.distance / sums.rows));
    for (std::size_t i = 0; i < kLooks; ++i) {
      EXPECT_NEAR(report.shares[i], Ratio(sums.on[i], sums.rows_with[i]), kNear) << i;
      EXPECT_NEAR(report.by_value[i], Ratio(sums.by_value[i], sums.rows_by_value[i]), kNear) << i;
    }
    EXPECT_NEAR(report.previous_token_score, previous / count, kNear);
    EXPECT_NEAR(report.duplicate_token_score, Ratio(duplicate, with_ids), kNear);
    EXPECT_NEAR(report.induction_score, Ratio(induction, with_ids), kNear);
    EXPECT_EQ(report.pattern_score.has_value(), patterns > 0);
    EXPECT_NEAR(report.pattern_score.value_or(0), Ratio(pattern, patterns), kNear);
  }
  std::size_t pair = 0;
  const std::vector<HeadDistance> distances = totals.Distances();
  ASSERT_EQ(distances.size(), static_cast<std::size_t>(heads * (heads - 1) / 2));
  for (std::int64_t a = 0; a < heads; ++a) {
    for (std::int64_t b = a + 1; b < heads; ++b, ++pair) {
      double sum = 0;
      double rows = 0;
      for (const Definition& text : definitions) text.AddDivergence(a, b, sum, rows);
      EXPECT_EQ(distances[pair].head, a);
      EXPECT_EQ(distances[pair].other, b);
      EXPECT_NEAR(distances[pair].jensen_shannon, Ratio(sum, rows), kNear) << a << " " << b;
    }
  }
}

TEST(HeadReport, AgreesOverSizesAndMasks) {
  for (const std::int64_t tokens : {1, 2, 3, 17, 64, 150, 280}) {
    Text text = MakeText(tokens, 3);
    ExpectExact({text});
    text.problem.causal = CausalAlignment::kTopLeft;
    AddPattern(text);
    ExpectExact({text});
  }
  Text text = MakeText(150, 4);
  text.problem.window = WindowForm{5, 2, CausalAlignment::kTopLeft, std::nullopt};
  ExpectExact({text});
  text = MakeText(150, 5);
  text.problem.causal = CausalAlignment::kBottomRight;
  text.problem.key_lengths = {90};  // 60 rows see nothing
  AddPattern(text);
  ExpectExact({text});
}

TEST(HeadReport, AgreesForPositionsSinksAndGroups) {
  for (const PositionKind kind : {PositionKind::kRotary, PositionKind::kAlibi}) {
    Text text = MakeText(120, 6);
    text.problem.causal = CausalAlignment::kTopLeft;
    text.problem.position.kind = kind;
    if (kind == PositionKind::kRotary) text.problem.position.layout = ChannelLayout::kHalves;
    if (kind == PositionKind::kAlibi) text.problem.position.slopes = {0.5F, 0.25F, 0.125F, 0.0625F};
    ExpectExact({text});
  }
  for (const std::int64_t hkv : {1, 4}) {
    Text text = MakeText(120, 7);
    text.problem.hkv = hkv;
    text.problem.eo = hkv == 1 ? 0 : 20;
    text.problem.sinks = {0.5F, 2, -1, 0};
    text.problem.causal = CausalAlignment::kTopLeft;
    ExpectExact({text});
  }
}

// A mask by head: rows that some heads cannot see from are theirs alone.
TEST(HeadReport, RowsThatSomeHeadsDoNotHave) {
  Text text = MakeText(60, 8);
  text.problem.mask_kind = TensorKind::kBool;
  text.problem.mask_shape = {1, 4, 60, 60};
  text.problem.mask.assign(4 * 60 * 60, 1.0F);
  std::fill_n(text.problem.mask.begin() + 60 * 60 + 60 * 20, 60 * 15, 0.0F);
  ExpectExact({text});
}

TEST(HeadReport, SeveralTextsOfSeveralLengths) {
  std::vector<Text> texts;
  for (const std::int64_t tokens : {40, 7, 130, 1}) {
    texts.push_back(MakeText(tokens, 9));
    texts.back().problem.causal = CausalAlignment::kTopLeft;
  }
  AddPattern(texts[1]);
  AddPattern(texts[2]);
  texts[3].ids.clear();
  ExpectExact(texts);
  texts = {MakeText(30, 10)};
  texts[0].ids.assign(30, 5);  // all the same
  ExpectExact(texts);
  for (std::size_t i = 0; i < 30; ++i) texts[0].ids[i] = -static_cast<std::int64_t>(i);  // all different
  ExpectExact(texts);
}

TEST(HeadReport, TheSameBitsWithAnyNumberOfThreads) {
  Text text = MakeText(900, 11);
  text.problem.causal = CausalAlignment::kTopLeft;
  AddPattern(text);
  const Definition definition(text);
  HeadTotals one(4);
  HeadTotals four(4);
  Read(definition, one, 1);
  Read(definition, four, 4);
  const std::vector<HeadReport> a = one.Reports();
  const std::vector<HeadReport> b = four.Reports();
  for (std::size_t h = 0; h < 4; ++h) {
    EXPECT_EQ(a[h].mean_entropy, b[h].mean_entropy);
    EXPECT_EQ(a[h].mean_largest_weight, b[h].mean_largest_weight);
    EXPECT_EQ(a[h].mean_distance, b[h].mean_distance);
    EXPECT_EQ(a[h].shares, b[h].shares);
    EXPECT_EQ(a[h].by_value, b[h].by_value);
    EXPECT_EQ(a[h].induction_score, b[h].induction_score);
    EXPECT_EQ(a[h].pattern_score, b[h].pattern_score);
  }
  for (std::size_t pair = 0; pair < 6; ++pair) {
    EXPECT_EQ(one.Distances()[pair].jensen_shannon, four.Distances()[pair].jensen_shannon);
  }
}

TEST(HeadReport, MemoryGrowsWithTheTokensAlone) {
  std::int64_t peaks[3] = {};
  for (const int i : {0, 1, 2}) {
    Problem p = MakeText(std::int64_t{700} << i, 12).problem;
    const std::unique_ptr<Bound> bound = Bind(p);
    const std::vector<std::int64_t> ids(static_cast<std::size_t>(p.tq), 1);
    const absl::StatusOr<HeadRowsPlan> plan = PlanRows(*bound);
    ASSERT_TRUE(plan.ok());
    MemoryAccount account(nullptr);
    HeadTotals totals(4);
    HeadSumsSink sink(*plan, {ids}, account, totals);
    ASSERT_EQ(RunRows(*plan, *bound, account, sink, 1), absl::OkStatus());
    peaks[i] = account.peak();
  }
  EXPECT_LT(peaks[1], 2.1 * static_cast<double>(peaks[0]));
  EXPECT_LT(peaks[2], 2.1 * static_cast<double>(peaks[1]));
}

TEST(HeadReport, APatternIsOfTruths) {
  Text text = MakeText(20, 13);
  AddPattern(text);
  text.pattern[20 * 7 + 11] = 2;
  const std::unique_ptr<Bound> bound = Bind(text.problem);
  const absl::StatusOr<HeadRowsPlan> plan = PlanRows(*bound);
  MemoryAccount account(nullptr);
  HeadTotals totals(4);
  HeadSumsSink sink(*plan, {{}, reinterpret_cast<const std::byte*>(text.pattern.data())}, account, totals);
  const absl::Status status = RunRows(*plan, *bound, account, sink);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("2 at [7, 11]"), std::string::npos) << status;
}

// Ten rows, all of which look so.
HeadSums SumsOf(Look look, double share, double evenly) {
  HeadSums sums;
  sums.rows = 10;
  sums.entropy = 10;
  sums.uniform_entropy = 20;
  const auto at = static_cast<std::size_t>(look);
  sums.rows_with[at] = 10;
  sums.on[at] = 10 * share;
  sums.evenly[at] = 10 * evenly;
  return sums;
}

TEST(FindHabit, WhatStandsOutInWords) {
  const auto words = [](Look look) { return Describe(FindHabit(SumsOf(look, 0.934, 0.2))); };
  EXPECT_EQ(words(Look::kPrevious), "looks one step back, 0.93");
  EXPECT_EQ(words(Look::kSame), "looks at the token itself, 0.93");
  EXPECT_EQ(words(Look::kFirst), "looks at the first token, 0.93");
  EXPECT_EQ(words(Look::kLast), "looks at the last token, 0.93");
  EXPECT_EQ(words(Look::kDuplicate), "looks at earlier occurrences of the same token, 0.93");
  EXPECT_EQ(words(Look::kInduction), "looks at what followed the same token before, 0.93");
  EXPECT_EQ(FindHabit(SumsOf(Look::kInduction, 0.9, 0.1)).habit, Habit::kInduction);
}

TEST(FindHabit, NeedsAShareThatIsMoreThanEvenAndRowsThatHaveOne) {
  EXPECT_EQ(FindHabit(SumsOf(Look::kSame, 0.49, 0.1)).habit, Habit::kNone);
  EXPECT_EQ(FindHabit(SumsOf(Look::kSame, 0.5, 0.25)).habit, Habit::kSameToken);
  EXPECT_EQ(FindHabit(SumsOf(Look::kSame, 0.5, 0.26)).habit, Habit::kNone);
  HeadSums rare = SumsOf(Look::kInduction, 0.9, 0.1);
  rare.rows = 80;
  EXPECT_EQ(FindHabit(rare).habit, Habit::kInduction);
  rare.rows = 81;
  EXPECT_EQ(FindHabit(rare).habit, Habit::kNone);
  EXPECT_EQ(Describe(FindHabit(rare)), "nothing stands out");
  EXPECT_EQ(FindHabit(SumsOf(Look::kSame, std::nan(""), 0.1)).habit, Habit::kNone);
  EXPECT_EQ(FindHabit(HeadSums()).habit, Habit::kNone);
}

TEST(FindHabit, TheLargestOfSeveral) {
  HeadSums sums = SumsOf(Look::kFirst, 0.6, 0.1);
  sums.Add(SumsOf(Look::kPrevious, 0.7, 0.1));
  const FoundHabit found = FindHabit(sums);
  EXPECT_EQ(found.habit, Habit::kPreviousToken);
  EXPECT_DOUBLE_EQ(found.score, 0.7);
}

TEST(FindHabit, SpreadingEvenlyIsOne) {
  HeadSums sums;
  sums.rows = 10;
  sums.uniform_entropy = 20;
  sums.entropy = 18.9;
  EXPECT_EQ(FindHabit(sums).habit, Habit::kNone);
  sums.entropy = 19.2;
  EXPECT_EQ(Describe(FindHabit(sums)), "spreads evenly over what it sees, 0.96");
}

TEST(ClustersOf, HangTogetherByNearPairs) {
  const std::vector<HeadDistance> distances = {{0, 1, 0.3}, {0, 2, 0.04}, {0, 3, 0.2},  {0, 4, 0.6},  {1, 2, 0.5},
                                               {1, 3, 0.5}, {1, 4, 0.01}, {2, 3, 0.03}, {2, 4, 0.05}, {3, 4, 0.4}};
  EXPECT_THAT(ClustersOf(5, distances, 0.05), ElementsAre(ElementsAre(0, 2, 3), ElementsAre(1, 4)));
  EXPECT_THAT(ClustersOf(5, distances, 0.02), ElementsAre(ElementsAre(1, 4)));
  EXPECT_THAT(ClustersOf(5, distances, 0.06), ElementsAre(ElementsAre(0, 1, 2, 3, 4)));
  EXPECT_THAT(ClustersOf(5, distances, 0), IsEmpty());
  EXPECT_THAT(ClustersOf(1, {}, 0.5), IsEmpty());
}

}  // namespace
}  // namespace headlight
