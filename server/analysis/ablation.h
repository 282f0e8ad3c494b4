// What a layer's output loses with its heads, from inner products alone. Let d_h be what head h adds to the output y:
// its own output through its rows of W_o, and where its mean stands in its place, less that mean. Without a set S of
// heads the output is y - c with c the sum of d_h over S, all rows of the call as one vector, and so
//   ||c||^2 = sum of <d_g, d_h> over g, h in S,  <c, y> = sum of <d_h, y> over S,  ||y - c||^2 = ||y||^2 - 2 <c, y> +
//   ||c||^2.
// Pure functions; thread-safe.
#ifndef HEADLIGHT_SERVER_ANALYSIS_ABLATION_H_
#define HEADLIGHT_SERVER_ANALYSIS_ABLATION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace headlight {

// How far an output is from the layer's own.
struct OutputChange {
  double relative_l2 = 0;  // ||c|| / ||y||; infinity where y is 0 and c is not
  double cosine = 1;       // of y and y - c; 0 where either is nothing, which y - c is below a millionth of y and c
};

// Inner products of all that heads add, in double.
class HeadProducts {
 public:
  explicit HeadProducts(std::int64_t heads)
      : heads_(heads),
        pairs_(static_cast<std::size_t>(heads * (heads + 1) / 2)),
        with_output_(static_cast<std::size_t>(heads)) {}

  std::int64_t heads() const { return heads_; }
  // <d_g, d_h>, of both orders.
  double& Pair(std::int64_t g, std::int64_t h) { return pairs_[PairAt(g, h)]; }
  double Pair(std::int64_t g, std::int64_t h) const { return pairs_[PairAt(g, h)]; }
  // <d_h, y>.
  double& WithOutput(std::int64_t h) { return with_output_[static_cast<std::size_t>(h)]; }
  double WithOutput(std::int64_t h) const { return with_output_[static_cast<std::size_t>(h)]; }

  double output_squared = 0;  // <y, y>

 private:
  static std::size_t PairAt(std::int64_t g, std::int64_t h) {
    return static_cast<std::size_t>(g < h ? h * (h + 1) / 2 + g : g * (g + 1) / 2 + h);
  }

  std::int64_t heads_;
  std::vector<double> pairs_, with_output_;
};

// Without these heads, none of them twice. No heads: no change.
OutputChange ChangeWithout(const HeadProducts& products, const std::vector<std::int64_t>& heads);

struct RedundancyStep {
  std::int64_t head = 0;
  OutputChange change;  // without it and all heads of the steps before
};

// All heads, greedily: each step takes the head whose loss, together with all before, changes the output least; of
// equals the lower number.
std::vector<RedundancyStep> RankByRedundancy(const HeadProducts& products);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_ABLATION_H_
