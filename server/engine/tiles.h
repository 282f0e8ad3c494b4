// One lane's tiles: query rows of one head or of several that share a tile, a span of keys and values, their scores and
// the accumulator, all in the lane's scratch. Naive and flash are two orders of the same steps.
#ifndef HEADLIGHT_SERVER_ENGINE_TILES_H_
#define HEADLIGHT_SERVER_ENGINE_TILES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "server/engine/call.h"
#include "server/engine/phased_work.h"

namespace headlight {

// Rows of one query head within a tile.
struct TilePart {
  std::int64_t head = 0;      // query head
  std::int64_t tile_row = 0;  // where its first row lies in the tile
};

// What a tile is for: the same query rows of `group` query heads of each of `key_value_heads` key/value heads. Heads of
// one key/value head lie one below the other; each such stack is padded.
struct QueryBlock {
  std::int64_t batch = 0;
  std::int64_t key_value_head = 0;  // the first
  std::int64_t key_value_heads = 1;
  std::int64_t first_in_group = 0;  // among the query heads of a key/value head
  std::int64_t group = 1;
  std::int64_t heads_per_group = 1;  // Hq / Hkv
  Range rows;
  Range keys;  // all that any of the rows may see

  std::int64_t parts() const { return group * key_value_heads; }
  std::int64_t stack_rows() const { return group * rows.size(); }
  std::int64_t padded_rows() const { return RoundUp(stack_rows(), kTailRows); }
  std::int64_t tile_rows() const { return key_value_heads * padded_rows(); }
  TilePart Part(std::int64_t i) const {
    const std::int64_t stack = i / group;
    const std::int64_t in_stack = i % group;
    return {(key_value_head + stack) * heads_per_group + first_in_group + in_stack,
            stack * padded_rows() + in_stack * rows.size()};
  }
};

// How many query blocks a call has, and which one a task is: blocks of a key/value head are neighbours.
std::int64_t QueryBlocks(const CallState& call);
QueryBlock QueryBlockOf(const CallState& call, std::int64_t task);
// Some rows of one query head.
QueryBlock OneHeadBlock(const CallState& call, std::int64_t batch, std::int64_t head, Range rows, Range keys);

// The lane's scratch, cut up: what planner.cc counted.
class Tiles {
 public:
  Tiles(CallState& call, Lane& lane);

  // Float32, rows as QueryBlock says, those of the keys that SetKeys was told last.
  Matrix<float> scores() const { return scores_; }
  // Scores are of these keys from here on, padded.
  void SetKeys(Range keys) { scores_.stride = RoundUp(keys.size(), kTailKeys); }
  float* largest() const { return largest_; }  // of each row: the largest score seen
  float* sums() const { return sums_; }        // of each row: sum of exponentials

  // Loads the block's query rows (turned, of the kind that products take, padded with zeros) and resets output, largest
  // and sums.
  void Start(const QueryBlock& block);

  // Scores of the block against a tile of keys: products, softcap, ALiBi, masks. Hands them to the sinks. False: the
  // rules let no row see any of the keys, and nothing was computed. A score that counts and is not finite is
  // INVALID_ARGUMENT, or with allow_non_finite marks its row and becomes -inf.
  absl::StatusOr<bool> Score(const QueryBlock& block, Range keys);

  // Score, then one step of the online softmax: what Blend takes is ready. False as Score.
  absl::StatusOr<bool> Weigh(const QueryBlock& block, Range keys);

  // All pairs of a block of one head and a tile of keys at some stage, in scores(). REQUIRES for weights: attention is
  // done.
  absl::Status Show(const QueryBlock& block, Range keys, MapStage stage);

  // Makes weights in scores(), padded with zeros, what Blend takes: bfloat16 lies dense from where scores begin.
  void NarrowWeights(const QueryBlock& block);

  // output += weights x values of the tile.
  absl::Status Blend(const QueryBlock& block, Range keys);

  // Divides the output by the sums, writes it to every target, and tells the sinks what normalises rows: in pieces of a
  // few rows of each part where there are sinks, each a unit of work. INVALID_ARGUMENT where the output is not finite.
  std::int64_t FinishPieces(const QueryBlock& block) const { return CeilDiv(block.rows.size(), PieceRows()); }
  absl::Status Finish(const QueryBlock& block, std::int64_t piece);

 private:
  // What a row has seen among the scores that count, with allow_non_finite: nothing strange, or NaN or +inf, which make
  // the whole row NaN. A score of -inf is a weight of 0, as where a mask says it.
  static constexpr float kSound = 0;
  static constexpr float kSawNaN = 1;

  // K or V of a tile as products take them: [key_value_heads, padded keys, size].
  struct Rows {
    const void* data;
    std::int64_t stride;  // elements from key to key
    std::int64_t step;    // elements from head to head
    bool packed = false;  // a packed tile; `stride` is what it was packed from
  };
  // Scales query rows in place, by a power of two: they stay what they are in bfloat16. Uses the room for keys.
  void ScaleHalves(std::uint16_t* halves, std::int64_t count);
  // A packed tile where there is one; in place where they lie ready and there is no tail; else made in `room`.
  Rows LoadRows(const QueryBlock& block, const KeyValueRows& from, Range keys, float* room) const;
  // A product of the block's first key/value head made one of all of them.
  static void SpreadOverHeads(const QueryBlock& block, const Rows& rows, MatmulShape& shape);
  std::uint16_t* HalvesOf(std::int64_t row) const {
    return reinterpret_cast<std::uint16_t*>(scores_.data) + row * scores_.stride;
  }
  Matrix<float> View(const TilePart& part, Range rows, Range keys) const;
  // scale x Q K^T, and what follows it up to the mask.
  absl::Status Multiply(const QueryBlock& block, Range keys);
  void Softcap(const QueryBlock& block, Range keys);
  // Beside that of keys at the rows' bases, or as it is where these are null.
  void AddAlibiBias(const QueryBlock& block, const TilePart& part, Range keys, const std::int64_t* bases);
  double AlibiShift(std::int64_t head, std::int64_t tile_row) const;
  // What is left to whoever reads the scores next.
  enum class LeftOut : std::uint8_t {
    kNothing,
    kSinks,        // who were told of the tile before
    kCheckOfFull,  // whether scores of a tile that no mask touches are finite
    kMask,         // that, and masks that are ranges
  };
  absl::StatusOr<Verdict> ScoreBut(LeftOut left_out, const QueryBlock& block, Range keys);
  absl::Status Mask(const Tile& tile, const Matrix<float>& scores);
  void TellSinks(const QueryBlock& block, const TilePart& part, Range keys);
  // Scores before the mask: those that a row may see and that are not finite are refused, or mark their rows.
  absl::Status CheckFinite(const Tile& tile, const Matrix<float>& scores, float* flaws);
  // Scores after the mask: what is not finite and not forbidden marks its row and becomes -inf.
  static void CleanFlawed(const Matrix<float>& scores, float* flaws);
  // Values of a tile that are not finite: a copy without them for the product, and their part of it, pair by pair, so
  // that 0 x NaN of a forbidden pair reaches no sum.
  absl::Status BlendValues(const QueryBlock& block, Range keys, const Rows& values);
  bool ZeroNonFinite(const QueryBlock& block, Range keys, Rows& values);
  void BlendNonFinite(const QueryBlock& block, const TilePart& part, Range keys);
  // How a row ends: what normalises it, and its log-sum-exp without the sink.
  struct RowEnd {
    RowNorm norm;
    float log_sum_exp;
  };
  RowEnd EndOf(std::int64_t head, std::int64_t tile_row) const;
  // Rows of one piece. A row's end can take a sink some tens of microseconds: sorting a thousand keys, or as many
  // exponentials as there are keys.
  std::int64_t PieceRows() const;
  // `piece`: rows within the block.
  absl::Status FinishPart(const QueryBlock& block, const TilePart& part, Range piece);
  // Writes a finished row of output to every target.
  absl::Status WriteRow(const Tile& row, float* out, float factor);

  CallState& call_;
  Lane& lane_;
  float* query_;          // [rows, D], or as many bfloat16
  Matrix<float> scores_;  // [rows, padded keys of the tile], or weights, of bfloat16 where products take that
  Matrix<float> output_;  // [rows, Dv]: sums, until divided
  float* key_room_;
  float* value_room_;
  float* largest_;
  float* sums_;
  RowNorm* norms_;       // of each row, when they are done
  float* flaws_;         // of each row: what strange scores it has seen, with allow_non_finite
  std::int64_t* bases_;  // of each row, with ALiBi
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_TILES_H_
