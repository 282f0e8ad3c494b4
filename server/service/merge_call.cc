#include "server/service/merge_call.h"

#include "server/service/encode.h"

namespace headlight {

absl::Status MergeCall::Accept(const Request& request, absl::Time deadline) {
  absl::StatusOr<MergeProblem> problem = CheckMerge(request, shared_.limits);
  if (!problem.ok()) return problem.status();
  problem_ = *std::move(problem);
  // What is joined takes about a quarter of the time of as many sums of the reference.
  constexpr std::int64_t kFaster = 4;
  const MergeCost cost = CostOfMerge(problem_);
  cost_.reference_flops = 2 * cost.joined / kFaster;
  cost_.flops = cost.flops;
  cost_.bytes = static_cast<std::int64_t>(request.ByteSizeLong()) + cost.workspace + cost.answer +
                cost.lane_scratch * shared_.pool.workers();
  cost_.field = "partials";
  if (absl::Status admitted = Admit(request.priority(), deadline); !admitted.ok()) return admitted;
  merge_ = std::make_unique<MergeWork>(problem_, ticket_->account(), shared_.matmuls);
  work_ = std::make_unique<Sequence>(std::vector<PhasedWork*>{merge_.get()});
  return absl::OkStatus();
}

void MergeCall::Encode(Response* response) {
  EncodeTensor(merge_->TakeOutput(), response->mutable_output());
  EncodeTensor(merge_->TakeLogSumExp(), response->mutable_log_sum_exp());
}

}  // namespace headlight
