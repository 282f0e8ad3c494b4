#include "server/service/prune_call.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/half.h"
#include "server/service/decode_fields.h"
#include "server/service/encode_layers.h"
#include "server/service/steps.h"

namespace headlight {
namespace {

// The shift as float32; empty where none came, or where it is reported.
OwnedTensor ShiftOf(const v1::PruneLayerRequest& request, const Layer& layer, Violations& violations) {
  TensorView view;
  const std::optional<TensorForm> form = DecodeTensor(request.has_output_shift(), request.output_shift(), view);
  if (!form.has_value()) return {};
  if (layer.matrices().output.empty()) {
    violations.Add("output_shift", "a tensor", "nothing, for a layer without an output");
    return {};
  }
  const std::int64_t width = layer.matrices().output.shape[1];
  if (form->kind == TensorKind::kBool || form->shape != Shape{width} ||
      form->payload_bytes != width * WidthOf(form->kind)) {
    violations.Add("output_shift", absl::StrCat(NameOf(form->kind), " ", ToString(form->shape)),
                   absl::StrCat("[", width, "] numbers"));
    return {};
  }
  OwnedTensor shift = MakeTensor(TensorKind::kF32, {width});
  for (std::int64_t i = 0; i < width; ++i) {
    shift.floats()[i] = ElementAsFloat(view, i);
    if (!std::isfinite(shift.floats()[i])) {
      violations.Add("output_shift", absl::StrCat(shift.floats()[i], " at [", i, "]"), "finite numbers");
      return {};
    }
  }
  return shift;
}

}  // namespace

PruneWork::PruneWork(LayerStore& layers, MemoryAccount& account, Task task)
    : PhasedWork(account, 0, absl::InfinitePast()), layers_(layers), task_(std::move(task)) {}

void PruneWork::Build() {
  Add(std::make_unique<Steps>(
      Stage::kProject, [] { return std::int64_t{kLayerFields}; },
      [this](std::int64_t task, std::int64_t) {
        const auto field = static_cast<LayerField>(task);
        FieldOf(matrices_, field) = PruneField(*task_.layer, task_.plan, field);
        return false;
      },
      [this] { return Copied(); }));
  Add(std::make_unique<Steps>(
      Stage::kProject, [] { return std::int64_t{1}; }, [this](std::int64_t, std::int64_t) { return digest_->Step(); },
      [this] { return Digested(); }));
}

absl::Status PruneWork::Copied() {
  ShiftOutput(task_.shift, matrices_);
  header_ = HeaderOf(matrices_);
  std::vector<absl::string_view> parts{header_};
  for (int i = 0; i < kLayerFields; ++i) {
    const OwnedTensor& tensor = FieldOf(matrices_, static_cast<LayerField>(i));
    if (!tensor.empty()) parts.emplace_back(tensor.bytes);
  }
  digest_.emplace(std::move(parts));
  return absl::OkStatus();
}

absl::Status PruneWork::Digested() {
  LayerFile file{task_.name, digest_->Id(), LayerOrigin::kUpload, {}, nullptr, 0};
  LayerFacts facts{file.name, file.id, "headlight", TensorKind::kF32, {}, LayerOrigin::kUpload};
  for (int i = 0; i < kLayerFields; ++i) {
    const auto field = static_cast<LayerField>(i);
    if (!FieldOf(matrices_, field).empty()) facts.tensors[std::string(NameOf(field))] = std::string(NameOf(field));
  }
  file.layers.emplace_back(new Layer(std::move(facts), static_cast<std::int64_t>(task_.plan.kept.size()),
                                     static_cast<std::int64_t>(task_.plan.kept_key_value.size()), std::move(matrices_)),
                           [hold = task_.hold](const Layer* layer) { delete layer; });
  file.bytes = file.layers.front()->bytes();
  absl::StatusOr<LayerStore::Held> held = layers_.Put(std::move(file), task_.replace);
  if (!held.ok()) return held.status();
  held_ = *std::move(held);
  return absl::OkStatus();
}

absl::Status PruneCall::Accept(const Request& request, absl::Time deadline) {
  PruneWork::Task task;
  Violations violations;
  CheckName("layer", request.layer(), shared_.limits, violations);
  if (!violations.empty()) return violations.ToStatus();
  task.layer = shared_.layers.FindLayer(request.layer());
  if (task.layer == nullptr) return NotFoundByName("layer", request.layer(), "layer");
  task.name = request.name();
  task.replace = request.replace();
  task.shift = ShiftOf(request, *task.layer, violations);
  if (!violations.empty()) return violations.ToStatus();
  if (absl::Status may = shared_.layers.MayTake(task.name, "name"); !may.ok()) return may;
  absl::StatusOr<PrunePlan> plan = PlanPrune(*task.layer, {request.heads().begin(), request.heads().end()},
                                             request.query_heads(), request.key_value_heads());
  if (!plan.ok()) return plan.status();
  task.plan = *std::move(plan);
  const std::int64_t bytes = PrunedBytes(*task.layer, task.plan, !task.shift.empty());
  absl::StatusOr<std::shared_ptr<void>> hold = shared_.admission.Hold(bytes, "layer");
  if (!hold.ok()) return hold.status();
  task.hold = *std::move(hold);
  constexpr std::int64_t kWorkPerByte = 5;
  cost_.reference_flops = kWorkPerByte * bytes;
  cost_.field = "layer";
  if (absl::Status admitted = Admit(v1::PRIORITY_INTERACTIVE, deadline); !admitted.ok()) return admitted;
  prune_ = std::make_unique<PruneWork>(shared_.layers, ticket_->account(), std::move(task));
  work_ = std::make_unique<Sequence>(std::vector<PhasedWork*>{prune_.get()});
  return absl::OkStatus();
}

void PruneCall::Encode(Response* response) {
  const PruneWork::Task& task = prune_->task();
  EncodeLayer(prune_->pruned(), response->mutable_layer());
  for (const std::int64_t head : task.plan.kept) response->add_kept_heads(static_cast<std::uint32_t>(head));
  response->set_bytes_before(static_cast<std::uint64_t>(task.layer->bytes()));
}

}  // namespace headlight
