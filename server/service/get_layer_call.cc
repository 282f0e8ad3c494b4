#include "server/service/get_layer_call.h"

#include <vector>

#include "absl/strings/str_cat.h"
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
  layer_ = shared_.layers.FindLayer(request.name());
  if (layer_ == nullptr) stack_ = shared_.layers.FindStack(request.name());
  if (layer_ == nullptr && stack_ == nullptr) {
    return absl::NotFoundError("no layer or stack has the name or id that `name` gives; ListLayers lists them");
  }
  weights_ = request.include_weights() && layer_ != nullptr;
  if (weights_) {
    cost_.bytes = layer_->bytes();
    // Names and shapes beside the numbers.
    constexpr std::int64_t kRoom = 65'536;
    if (cost_.bytes + kRoom > shared_.limits.max_response_bytes) {
      ErrorDetails details;
      details.reason = ErrorReason::kResponseTooLarge;
      details.violations = {{"include_weights", absl::StrCat(cost_.bytes, " bytes"),
                             absl::StrCat("an answer of at most ", shared_.limits.max_response_bytes, " bytes")}};
      details.violation_count = 1;
      return MakeError(absl::StatusCode::kInvalidArgument, "include_weights: the matrices are too large for an answer",
                       details);
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
