// One PruneLayer.
#ifndef HEADLIGHT_SERVER_SERVICE_PRUNE_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_PRUNE_CALL_H_

#include <memory>
#include <optional>
#include <string>

#include "headlight/v1/layer_service.pb.h"
#include "server/layers/file_id.h"
#include "server/layers/prune.h"
#include "server/layers/store.h"
#include "server/service/admitted_call.h"

namespace headlight {

// Copies the matrices that are left and names them after their digest. A step is one matrix, or a piece of the digest.
class PruneWork final : public PhasedWork {
 public:
  struct Task {
    std::string name;
    bool replace = false;
    std::shared_ptr<const Layer> layer;
    PrunePlan plan;
    OwnedTensor shift;  // [Eo] float32, or empty
    std::shared_ptr<void> hold;
  };

  // `layers` and `account` outlive it.
  PruneWork(LayerStore& layers, MemoryAccount& account, Task task);

  const Task& task() const { return task_; }
  const Layer& pruned() const { return *held_.file->layers.front(); }

 private:
  void Build() override;
  absl::Status Copied();
  absl::Status Digested();

  LayerStore& layers_;
  Task task_;
  LayerMatrices matrices_;
  std::string header_;
  std::optional<SteppedDigest> digest_;
  LayerStore::Held held_;
};

class PruneCall : public AdmittedCall {
 public:
  using Request = v1::PruneLayerRequest;
  using Response = v1::PruneLayerResponse;

  explicit PruneCall(Shared& shared) : AdmittedCall(shared) {}

  // Errors: NOT_FOUND, INVALID_ARGUMENT, PERMISSION_DENIED, those of Admission::Admit and Hold.
  absl::Status Accept(const Request& request, absl::Time deadline);
  void Encode(Response* response);

 private:
  std::unique_ptr<PruneWork> prune_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_PRUNE_CALL_H_
