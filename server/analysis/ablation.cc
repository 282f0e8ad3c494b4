#include "server/analysis/ablation.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace headlight {
namespace {

// ||c||^2 and <c, y> of some heads that are gone.
struct Loss {
  double squared = 0;
  double with_output = 0;
};

OutputChange ChangeBy(const Loss& loss, double output_squared) {
  // What heads add came from float32: of a difference of such vectors, so much is rounding.
  constexpr double kNothing = 1e-12;
  const double squared = std::max(loss.squared, 0.0);
  if (squared == 0) return {};
  OutputChange change;
  change.relative_l2 =
      output_squared > 0 ? std::sqrt(squared / output_squared) : std::numeric_limits<double>::infinity();
  const double left = output_squared - 2 * loss.with_output + squared;
  if (output_squared <= 0 || left <= kNothing * std::max(output_squared, squared)) {
    change.cosine = 0;
  } else {
    const double cosine = (output_squared - loss.with_output) / (std::sqrt(output_squared) * std::sqrt(left));
    change.cosine = std::clamp(cosine, -1.0, 1.0);
  }
  return change;
}

}  // namespace

OutputChange ChangeWithout(const HeadProducts& products, const std::vector<std::int64_t>& heads) {
  Loss loss;
  for (const std::int64_t g : heads) {
    for (const std::int64_t h : heads) loss.squared += products.Pair(g, h);
    loss.with_output += products.WithOutput(g);
  }
  return ChangeBy(loss, products.output_squared);
}

std::vector<RedundancyStep> RankByRedundancy(const HeadProducts& products) {
  const std::int64_t heads = products.heads();
  std::vector<std::int64_t> left;
  for (std::int64_t h = 0; h < heads; ++h) left.push_back(h);
  // Of each head, with all that are gone: the sum of <d_g, d_h>.
  std::vector<double> with_gone(static_cast<std::size_t>(heads));
  const auto added = [&](std::int64_t h) { return products.Pair(h, h) + 2 * with_gone[static_cast<std::size_t>(h)]; };
  Loss loss;
  std::vector<RedundancyStep> steps;
  while (!left.empty()) {
    const auto least =
        std::min_element(left.begin(), left.end(), [&](std::int64_t g, std::int64_t h) { return added(g) < added(h); });
    const std::int64_t head = *least;
    loss.squared += added(head);
    loss.with_output += products.WithOutput(head);
    left.erase(least);
    for (const std::int64_t h : left) with_gone[static_cast<std::size_t>(h)] += products.Pair(head, h);
    steps.push_back({head, ChangeBy(loss, products.output_squared)});
  }
  return steps;
}

}  // namespace headlight
