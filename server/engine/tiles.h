// One lane's tiles: a block of query rows, a span of keys and values, their scores and the accumulator, all in the
// lane's scratch. Naive and flash are two orders of the same steps.
#ifndef HEADLIGHT_SERVER_ENGINE_TILES_H_
#define HEADLIGHT_SERVER_ENGINE_TILES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "server/engine/call.h"
#include "server/engine/phased_work.h"

namespace headlight {

// A block of query rows of one head.
struct QueryBlock {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  Range rows;
  std::int64_t padded_rows = 0;
  Range keys;  // all that any of the rows may see

  std::int64_t padded(std::int64_t count) const { return RoundUp(count, kTailKeys); }
};

// How many query blocks a call has, and which one a task is: blocks of a head are neighbours.
std::int64_t QueryBlocks(const CallState& call);
QueryBlock QueryBlockOf(const CallState& call, std::int64_t task);

// The lane's scratch, cut up: what planner.cc counted.
class Tiles {
 public:
  Tiles(CallState& call, Lane& lane);

  float* query() const { return query_; }           // [tile rows, D], scaled and turned
  Matrix<float> scores() const { return scores_; }  // [tile rows, tile keys]
  Matrix<float> output() const { return output_; }  // [tile rows, Dv]: sums, until divided
  float* largest() const { return largest_; }       // [tile rows]: the largest score seen
  float* sums() const { return sums_; }             // [tile rows]: sum of exponentials

  // Loads the block's query rows (scaled, turned, padded with zeros) and resets output, largest and sums.
  void Start(const QueryBlock& block);

  // Scores of the block against a tile of keys: products, softcap, ALiBi, masks. Hands them to the sinks. False: the
  // rules let no row see any of the keys, and nothing was computed. A score that counts and is not finite is
  // INVALID_ARGUMENT, or with allow_non_finite marks its row and becomes -inf.
  absl::StatusOr<bool> Score(const QueryBlock& block, Range keys);

  // All pairs of the block and a tile of keys at some stage, in scores(). REQUIRES for weights: attention is done.
  absl::Status Show(const QueryBlock& block, Range keys, MapStage stage);

  // output += scores (now weights, padded with zeros) x values of the tile.
  absl::Status Blend(const QueryBlock& block, Range keys);

  // Divides the output by the sums, writes it to every target, and tells the sinks the log-sum-exp. INVALID_ARGUMENT
  // where the output is not finite.
  absl::Status Finish(const QueryBlock& block);

 private:
  // Rows of K or V as a matrix of padded(keys) rows: in place where there is no tail, else copied and padded.
  Matrix<const float> LoadRows(const QueryBlock& block, const HeadsView& heads, Range keys, std::int64_t size,
                               float* padding) const;
  Matrix<float> View(const QueryBlock& block, Range keys) const;
  // scale x Q K^T, and what follows it up to the mask.
  absl::Status Multiply(const QueryBlock& block, Range keys);
  void Softcap(const QueryBlock& block, Range keys);
  void AddAlibiBias(const QueryBlock& block, Range keys);
  // Scores before the mask: those that a row may see and that are not finite are refused, or mark their rows.
  absl::Status CheckFinite(const Tile& tile, const Matrix<float>& scores);
  // Scores after the mask: what is not finite and not forbidden marks its row and becomes -inf.
  void CleanFlawed(const Matrix<float>& scores);
  // Values of a tile that are not finite: a copy without them for the product, and their part of it, pair by pair, so
  // that 0 x NaN of a forbidden pair reaches no sum.
  Matrix<const float> WithoutNonFinite(const Matrix<const float>& rows);
  void BlendNonFinite(const QueryBlock& block, Range keys);
  // How a row ends: what normalises it, and its log-sum-exp without the sink.
  struct RowEnd {
    RowNorm norm;
    float log_sum_exp;
  };
  RowEnd EndOf(const QueryBlock& block, std::int64_t r) const;
  // Writes a finished row of output to every target.
  absl::Status WriteRow(const QueryBlock& block, std::int64_t r, float factor);
  bool SinksWant(const QueryBlock& block) const;

  CallState& call_;
  Lane& lane_;
  float* query_;
  Matrix<float> scores_;
  Matrix<float> output_;
  float* key_padding_;
  float* value_padding_;
  float* largest_;
  float* sums_;
  RowNorm* norms_;  // [tile rows], when they are done
  float* flaws_;    // [tile rows]: what strange scores a row has seen, with allow_non_finite
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_TILES_H_
