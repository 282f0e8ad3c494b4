#include "tests/bench/check.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace headlight::bench {
namespace {

using oracle::Bound;
using oracle::Problem;

ExactRow Solve(const Problem& p, const float* query, const float* keys, const float* values, std::int64_t row) {
  ExactRow exact;
  exact.row = row;
  exact.weights.assign(static_cast<std::size_t>(p.tk), 0);
  exact.output.assign(static_cast<std::size_t>(p.dv), 0);
  const std::int64_t seen = p.causal.has_value() ? std::clamp<std::int64_t>(row + p.tk - p.tq + 1, 0, p.tk) : p.tk;
  if (seen == 0) return exact;
  const double scale = p.scale.value_or(1 / std::sqrt(static_cast<double>(p.d)));
  const auto end = exact.weights.begin() + seen;
  for (std::int64_t j = 0; j < seen; ++j) {
    const auto multiply = [](double a, double b) { return a * b; };  // of floats the product would be rounded
    exact.weights[static_cast<std::size_t>(j)] =
        scale * std::inner_product(query, query + p.d, keys + j * p.d, 0.0, std::plus<>(), multiply);
  }
  const double most = *std::max_element(exact.weights.begin(), end);
  std::for_each(exact.weights.begin(), end, [most](double& w) { w = std::exp(w - most); });
  const double sum = std::accumulate(exact.weights.begin(), end, 0.0);
  for (std::int64_t j = 0; j < seen; ++j) {
    const double weight = exact.weights[static_cast<std::size_t>(j)] /= sum;
    for (std::int64_t c = 0; c < p.dv; ++c) exact.output[static_cast<std::size_t>(c)] += weight * values[j * p.dv + c];
  }
  return exact;
}

std::string Offence(std::int64_t element, double got, double want) {
  return absl::StrCat("element ", element, ": got ", got, ", want ", want);
}

}  // namespace

std::vector<ExactRow> SomeRows(const Bound& bound, std::int64_t rows_per_head) {
  const Problem& p = bound.problem;
  const std::vector<float> q = oracle::Floats(bound.query);
  const std::vector<float> k = oracle::Floats(bound.key);
  const std::vector<float> v = oracle::Floats(bound.value);
  const std::int64_t n = std::min(rows_per_head, p.tq);
  std::vector<ExactRow> rows;
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t h = 0; h < p.hq; ++h) {
      const std::int64_t from = (b * p.hkv + h / (p.hq / p.hkv)) * p.tk;
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t row = n == 1 ? 0 : i * (p.tq - 1) / (n - 1);
        const float* query = q.data() + ((b * p.hq + h) * p.tq + row) * p.d;
        rows.push_back(Solve(p, query, k.data() + from * p.d, v.data() + from * p.dv, row));
        rows.back().batch = b;
        rows.back().head = h;
      }
    }
  }
  return rows;
}

double Tolerance(TensorKind kind, double want) {
  return kind == TensorKind::kF32 ? 1e-5 + 5e-6 * std::fabs(want) : 8e-3 + 0x1p-8 * std::fabs(want);
}

std::string CheckRows(const std::vector<ExactRow>& rows, const Bound& bound, const OwnedTensor& output) {
  const Problem& p = bound.problem;
  const std::vector<float> got = oracle::Floats(output);
  if (static_cast<std::int64_t>(got.size()) != p.b * p.hq * p.tq * p.dv) return "the output has a wrong size";
  for (const ExactRow& row : rows) {
    const std::int64_t first = ((row.batch * p.hq + row.head) * p.tq + row.row) * p.dv;
    for (std::int64_t c = 0; c < p.dv; ++c) {
      const double have = got[static_cast<std::size_t>(first + c)], want = row.output[static_cast<std::size_t>(c)];
      if (!(std::fabs(have - want) <= Tolerance(p.kind, want))) return Offence(first + c, have, want);
    }
  }
  return {};
}

std::string CheckFlash(ComputePool& pool, const Bound& bound, const OwnedTensor& output) {
  constexpr std::int64_t kLargestGrid = std::int64_t{1} << 30;
  const Problem& p = bound.problem;
  if (std::string offence = CheckRows(SomeRows(bound, 16), bound, output); !offence.empty()) return offence;
  if (p.b * p.hq * p.tq * p.tk * static_cast<std::int64_t>(sizeof(float)) > kLargestGrid) return {};
  const auto naive = oracle::RunEngineOn(pool, bound, Algorithm::kNaive);
  if (!naive.ok()) return naive.status().ToString();
  const std::vector<float> got = oracle::Floats(output);
  const std::vector<float> want = oracle::Floats((*naive)->result.output);
  if (got.size() != want.size()) return "naive's output has another size";
  for (std::size_t i = 0; i < got.size(); ++i) {
    // Each may be off by the tolerance.
    if (!(std::fabs(got[i] - want[i]) <= 2 * Tolerance(p.kind, want[i]))) {
      return Offence(static_cast<std::int64_t>(i), got[i], want[i]) + " (naive)";
    }
  }
  return {};
}

}  // namespace headlight::bench
