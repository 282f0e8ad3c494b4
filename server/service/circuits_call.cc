#include "server/service/circuits_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/service/costs.h"
#include "server/service/encode.h"

namespace headlight {
namespace {

void EncodeCircuit(CircuitResult&& circuit, v1::Circuit* message) {
  message->mutable_singular_values()->Add(circuit.singular_values.begin(), circuit.singular_values.end());
  message->set_frobenius_norm(circuit.frobenius_norm);
  if (!circuit.left.empty()) EncodeTensor(std::move(circuit.left), message->mutable_left());
  if (!circuit.right.empty()) EncodeTensor(std::move(circuit.right), message->mutable_right());
}

void EncodeHead(HeadCircuitsResult&& head, v1::HeadCircuits* message) {
  message->set_head(static_cast<std::uint32_t>(head.head));
  EncodeCircuit(std::move(head.query_key), message->mutable_query_key());
  EncodeCircuit(std::move(head.output_value), message->mutable_output_value());
  for (const std::complex<double>& value : head.eigenvalues) {
    message->add_eigenvalues_real(value.real());
    message->add_eigenvalues_imaginary(value.imag());
  }
  message->set_copying_score(head.copying_score);
  if (!head.scores.empty()) EncodeTensor(std::move(head.scores), message->mutable_scores());
}

void EncodeComposition(const CompositionResult& composition, v1::Composition* message) {
  message->set_head(static_cast<std::uint32_t>(composition.head));
  message->set_later_head(static_cast<std::uint32_t>(composition.later_head));
  message->set_query(composition.query);
  message->set_key(composition.key);
  message->set_value(composition.value);
}

// The attention of a call is that of the swap.
absl::Status OfSwap(const absl::Status& status) { return RenameFields(status, "self_attention", "swap"); }

}  // namespace

absl::Status CircuitsCall::PlanSwap() {
  const CheckedSwap& swap = *checked_->swap;
  absl::StatusOr<ExecutionPlan> rest = MakePlan(WithoutAim(swap.spec, swap.heads), shared_.limits, ThisProcessor());
  if (!rest.ok()) return rest.status();
  rest_ = *std::move(rest);
  ProblemSpec spec = AimAlone(swap.spec, swap.heads);
  spec.algorithm = rest_->algorithm;
  absl::StatusOr<ExecutionPlan> alone = MakePlan(std::move(spec), shared_.limits, ThisProcessor());
  if (!alone.ok()) return alone.status();
  alone_ = *std::move(alone);
  AddCost(*rest_);
  AddCost(*alone_);
  cost_.bytes += SwapBytes(rest_->spec);
  return absl::OkStatus();
}

absl::Status CircuitsCall::CheckCost(const CircuitsCost& cost) const {
  const Limits& limits = shared_.limits;
  Violations violations;
  if (cost.bytes_per_lane + cost.bytes > limits.max_workspace_bytes) {
    violations.AddTooExpensive("layer", absl::StrCat(cost.bytes_per_lane + cost.bytes, " bytes of workspace"),
                               absl::StrCat("at most ", limits.max_workspace_bytes));
    return violations.ToStatus();
  }
  std::int64_t response = cost.response_bytes;
  if (rest_.has_value()) response += rest_->response_bytes + alone_->response_bytes;
  if (response <= limits.max_response_bytes) return absl::OkStatus();
  return ResponseTooLarge("heads", response, limits.max_response_bytes);
}

absl::Status CircuitsCall::Accept(const Request& request, absl::Time deadline) {
  absl::StatusOr<CheckedCircuits> checked = CheckCircuits(request, shared_.layers, shared_.limits);
  if (!checked.ok()) return checked.status();
  checked_ = *std::move(checked);
  if (checked_->swap.has_value()) {
    if (absl::Status planned = PlanSwap(); !planned.ok()) {
      return RenameFields(OfSwap(planned), "outputs", "swap");
    }
  }
  const CircuitsCost cost = CostOf(checked_->problem);
  if (absl::Status within = CheckCost(cost); !within.ok()) return within;
  // Eigen's products take about a quarter of the time of the reference's sums.
  constexpr std::int64_t kFaster = 4;
  cost_.reference_flops += cost.flops / kFaster;
  cost_.bytes += static_cast<std::int64_t>(request.ByteSizeLong()) + cost.bytes_per_lane * shared_.pool.workers() +
                 cost.bytes + cost.response_bytes;
  cost_.field = "heads";
  if (absl::Status admitted = Admit(request.priority(), deadline); !admitted.ok()) return admitted;
  MakeWork();
  return absl::OkStatus();
}

void CircuitsCall::MakeWork() {
  MemoryAccount& account = ticket_->account();
  circuits_ = std::make_unique<CircuitsWork>(checked_->problem, account);
  std::vector<PhasedWork*> order{circuits_.get()};
  if (checked_->swap.has_value()) {
    const CheckedSwap& swap = *checked_->swap;
    swap_ = std::make_unique<CircuitSwap>(*rest_, *alone_, swap.heads, swap.data, account, shared_.matmuls);
    for (PhasedWork* work : swap_->order()) order.push_back(work);
  }
  work_ = std::make_unique<Sequence>(std::move(order));
}

void CircuitsCall::Compute(ComputePool::Done done) {
  AdmittedCall::Compute([done = std::move(done)](const absl::Status& status) { done(OfSwap(status)); });
}

void CircuitsCall::Encode(Response* response) {
  for (HeadCircuitsResult& head : circuits_->heads()) EncodeHead(std::move(head), response->add_heads());
  for (const CompositionResult& c : circuits_->compositions()) EncodeComposition(c, response->add_compositions());
  if (checked_->later != nullptr) EncodeComposition(circuits_->baseline(), response->mutable_random_baseline());
  if (swap_ != nullptr) {
    EncodeTensor(std::move(swap_->output()), response->mutable_swapped_output());
    EncodeTensor(std::move(swap_->map()), response->mutable_swapped_map());
    EncodeTensor(std::move(swap_->contribution()), response->mutable_swapped_contribution());
  }
  response->set_layer_name(checked_->layer->name());
  response->set_layer_id(checked_->layer->facts().id);
}

}  // namespace headlight
