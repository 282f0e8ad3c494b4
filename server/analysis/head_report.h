// What heads do, in numbers and in words, from the sums of a pass over whole rows of their weights (head_sums.h).
//
// Tokens are counted by their places in the sequence, 0 .. T - 1, whatever positions the options give them.
#ifndef HEADLIGHT_SERVER_ANALYSIS_HEAD_REPORT_H_
#define HEADLIGHT_SERVER_ANALYSIS_HEAD_REPORT_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace headlight {

// Keys that attention may go to, for row i.
enum class Look : std::uint8_t {
  kPrevious,   // i - 1
  kSame,       // i
  kFirst,      // 0
  kLast,       // the last key that there is
  kDuplicate,  // every j < i with the row's token
  kInduction,  // every j + 1 with j < i and the row's token at j (Olsson et al. 2022, arXiv 2209.11895)
};
inline constexpr int kLooks = 6;

// By Look.
using Looks = std::array<double, kLooks>;

// Sums over rows of one head, of those that see a key.
struct HeadSums {
  std::int64_t rows = 0;
  double entropy = 0;          // nats
  double uniform_entropy = 0;  // of the same keys, evenly
  double largest = 0;          // each row's largest weight
  double distance = 0;         // of weight x |i - j|
  double weight = 0;           // all
  double pattern = 0;          // weight on the caller's pattern
  Looks on = {};               // weight on such keys,
  Looks evenly = {};           // and what it were on the keys among them that have weight, if all seen had the same
  std::array<std::int64_t, kLooks> rows_with = {};  // rows for which there is such a key
  Looks by_value = {};                              // of weight x value length, made to add up to one per row
  std::array<std::int64_t, kLooks> rows_by_value = {};

  void Add(const HeadSums& other);
};

// What is known of a pair of heads.
struct PairSums {
  double divergence = 0;  // Jensen-Shannon, nats
  std::int64_t rows = 0;  // in which both see a key
};

// As in the contract.
enum class Habit : std::uint8_t {
  kNone,
  kPreviousToken,
  kSameToken,
  kFirstToken,
  kDuplicateToken,
  kInduction,
  kLastToken,
  kSpread,
};

// As the contract's HeadReport.
struct HeadReport {
  std::int64_t head = 0;
  double mean_entropy = 0;
  double mean_largest_weight = 0;
  double mean_distance = 0;
  Looks shares = {};
  Looks by_value = {};
  double previous_token_score = 0;
  double duplicate_token_score = 0;
  double induction_score = 0;
  std::optional<double> pattern_score;
  Habit habit = Habit::kNone;
  double habit_score = 0;
  std::string description;
};

struct HeadDistance {
  std::int64_t head = 0;
  std::int64_t other = 0;
  double jensen_shannon = 0;
};

// Sums over all sequences of a call.
class HeadTotals {
 public:
  explicit HeadTotals(std::int64_t heads);

  // One more sequence: `sums` by head, `pairs` by the smaller number, then the larger. `has_tokens`,
  // `has_pattern`: the caller gave their ids, and a pattern, for it.
  void AddSequence(const std::vector<HeadSums>& sums, const std::vector<PairSums>& pairs, bool has_tokens,
                   bool has_pattern);

  std::int64_t heads() const { return static_cast<std::int64_t>(sums_.size()); }
  std::int64_t sequences() const { return sequences_; }
  // Most that any head looked from.
  std::int64_t rows() const;
  // By number.
  std::vector<HeadReport> Reports() const;
  // Means over rows, of each pair.
  std::vector<HeadDistance> Distances() const;

 private:
  // Head detection scores of TransformerLens (head_detector.py, error_measure "mul"): weight on a pattern over all
  // weight, and the mean of that over sequences.
  struct Score {
    double sum = 0;
    std::int64_t sequences = 0;
    void Add(double on, double all);
    double Mean() const { return sequences == 0 ? 0 : sum / static_cast<double>(sequences); }
  };
  struct Scores {
    Score previous, duplicate, induction, pattern;
  };

  std::int64_t sequences_ = 0;
  std::vector<HeadSums> sums_;
  std::vector<Scores> scores_;
  std::vector<PairSums> pairs_;
};

// The habit of a head and its score: of the looks for which at least an eighth of the rows have a key, whose mean share
// is at least 0.5 and at least twice what it were if the head spread evenly over the keys it sees, the largest; else
// kSpread with the mean entropy over that of spreading evenly, where that is at least 0.95; else kNone with 0.
struct FoundHabit {
  Habit habit = Habit::kNone;
  double score = 0;
};
FoundHabit FindHabit(const HeadSums& sums);

// "looks one step back, 0.93".
std::string Describe(FoundHabit habit);

// Heads that hang together by distances below `nearest` (single linkage), two at least, each group and all groups in
// ascending order.
std::vector<std::vector<std::int64_t>> ClustersOf(std::int64_t heads, const std::vector<HeadDistance>& distances,
                                                  double nearest);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_HEAD_REPORT_H_
