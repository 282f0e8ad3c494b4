// Checked problems and their plans, for tests.
#ifndef HEADLIGHT_TESTS_PLAN_PLANS_H_
#define HEADLIGHT_TESTS_PLAN_PLANS_H_

#include <cstdint>
#include <utility>

#include "server/plan/planner.h"
#include "tests/problem/requests.h"

namespace headlight {

// Throws where the request is not well-formed.
inline ProblemSpec Checked(const ProblemRequest& request) { return CheckProblem(request, Limits()).value(); }

// Throws where the plan is refused.
inline ExecutionPlan PlanOf(const ProblemRequest& request, const Limits& limits = Limits()) {
  return MakePlan(Checked(request), limits, {}).value();
}

inline ProblemRequest Causal(ProblemRequest request, CausalAlignment alignment = CausalAlignment::kTopLeft) {
  request.mask.causal = CausalForm{alignment, {}};
  return request;
}

// Q, K, V of B 1, H 1 and D = Dv.
inline ProblemRequest OneHead(std::int64_t tokens, std::int64_t size) {
  return HeadMajorRequest({1, 1, 1, tokens, tokens, size, size});
}

// Embeddings of width `width`, `heads` heads that share `concat` channels, and an output as wide as the embeddings.
inline ProblemRequest SplitHeads(std::int64_t heads, std::int64_t concat, std::int64_t width, std::int64_t tokens) {
  SelfAttentionForm form;
  form.embeddings = FormOf({2, tokens, width});
  LayerForm layer;
  layer.query = layer.key = layer.value = FormOf({width, concat});
  layer.output = FormOf({concat, width});
  form.layer = layer;
  ProblemRequest request;
  request.input = std::move(form);
  request.query_heads = heads;
  return request;
}

}  // namespace headlight

#endif  // HEADLIGHT_TESTS_PLAN_PLANS_H_
