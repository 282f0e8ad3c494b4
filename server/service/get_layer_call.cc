#include "server/service/get_layer_call.h"

#include <vector>

#include "server/service/decode_fields.h"
#include "server/service/encode_layers.h"

namespace headlight {
namespace {

class Nothing final : public PhasedWork {
 public:
  explicit Nothing(MemoryAccount& account) : PhasedWork(account, 0, absl::InfinitePast()) {}

 private:
  void Build() override {}
};

}  // namespace

absl::Status GetLayerCall::Accept(const Request& request, absl::Time deadline) {
  Violations violations;
  CheckName("name", request.name(), shared_.limits, violations);
  if (!violations.empty()) return violations.ToStatus();
  layer_ = shared_.layers.FindLayer(request.name());
  if (layer_ == nullptr) stack_ = shared_.layers.FindStack(request.name());
  if (layer_ == nullptr && stack_ == nullptr) {
    return NotFoundByName("name", request.name(), "layer");
  }
  weights_ = request.include_weights() && layer_ != nullptr;
  if (weights_) {
    cost_.bytes = layer_->bytes();
    // Names and shapes beside the numbers.
    constexpr std::int64_t kRoom = 65'536;
    if (const std::int64_t answer = cost_.bytes + kRoom; answer > shared_.limits.max_response_bytes) {
      return ResponseTooLarge("include_weights", answer, shared_.limits.max_response_bytes);
    }
  }
  cost_.field = "include_weights";
  if (absl::Status admitted = Admit(v1::PRIORITY_INTERACTIVE, deadline); !admitted.ok()) return admitted;
  none_ = std::make_unique<Nothing>(ticket_->account());
  work_ = std::make_unique<Sequence>(std::vector<PhasedWork*>{none_.get()});
  return absl::OkStatus();
}

void GetLayerCall::Encode(Response* response) {
  if (stack_ != nullptr) return EncodeStack(*stack_, /*with_vocabulary=*/true, response->mutable_stack());
  EncodeLayer(*layer_, response->mutable_layer());
  if (weights_) EncodeWeights(*layer_, response->mutable_weights());
}

}  // namespace headlight
