#include "tests/support/head_rows.h"

#include <cmath>
#include <memory>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/base/half.h"
#include "server/kernels/matmul.h"
#include "server/kernels/reference/attention.h"

namespace headlight::oracle {

absl::StatusOr<HeadRowsPlan> PlanRows(const Bound& bound, const Limits& limits) {
  absl::StatusOr<ProblemSpec> spec = CheckProblem(bound.request, limits);
  if (!spec.ok()) return spec.status();
  spec->outputs.output = false;
  absl::StatusOr<ExecutionPlan> plan = MakePlan(*std::move(spec), limits, {MultipliesBF16(), GainsFromPacking()});
  if (!plan.ok()) return plan.status();
  return PlanHeadRows(*std::move(plan));
}

absl::Status RunRows(const HeadRowsPlan& plan, const Bound& bound, MemoryAccount& account, HeadRowsSink& sink,
                     int threads) {
  static auto& matmuls = *new MatmulCache();
  ComputePool pool(threads);
  HeadRowsWork work(plan, bound.data, account, matmuls, sink, absl::Now());
  absl::Status status;
  absl::Notification ended;
  pool.Run(std::make_shared<CallControl>(absl::InfiniteFuture()), &work, [&](const absl::Status& computed) {
    status = computed;
    ended.Notify();
  });
  ended.WaitForNotification();
  return status;
}

std::vector<double> ValueLengths(const Bound& bound) {
  const Problem& p = bound.problem;
  std::vector<double> embeddings;
  for (std::int64_t i = 0; i < p.tk * p.e; ++i) embeddings.push_back(ElementAsFloat(bound.embeddings.view(), i));
  for (std::int64_t j = 0; p.position.kind == PositionKind::kSinusoidal && j < p.tk; ++j) {
    reference::AddSinusoid(embeddings.data() + j * p.e, p.e, p.position.layout == ChannelLayout::kHalves,
                           p.position.base.value_or(10000), QueryPosition(p, 0, j));
  }
  std::vector<double> lengths;
  for (std::int64_t h = 0; h < p.hq; ++h) {
    const std::int64_t kv = h / (p.hq / p.hkv);
    for (std::int64_t j = 0; j < p.tk; ++j) {
      std::vector<double> value(static_cast<std::size_t>(p.dv));
      for (std::int64_t c = 0; c < p.dv; ++c) {
        double sum = bound.bv.empty() ? 0.0 : ElementAsFloat(bound.bv.view(), kv * p.dv + c);
        for (std::int64_t e = 0; e < p.e; ++e) {
          sum += embeddings[static_cast<std::size_t>(j * p.e + e)] *
                 static_cast<double>(ElementAsFloat(bound.wv.view(), (e * p.hkv + kv) * p.dv + c));
        }
        value[static_cast<std::size_t>(c)] = sum;
      }
      double square = 0;
      for (std::int64_t o = 0; p.eo > 0 && o < p.eo; ++o) {
        double sum = 0;
        for (std::int64_t c = 0; c < p.dv; ++c) {
          sum += value[static_cast<std::size_t>(c)] *
                 static_cast<double>(ElementAsFloat(bound.wo.view(), (h * p.dv + c) * p.eo + o));
        }
        square += sum * sum;
      }
      for (const double x : value) square += p.eo > 0 ? 0 : x * x;
      lengths.push_back(std::sqrt(square));
    }
  }
  return lengths;
}

}  // namespace headlight::oracle
