// Attention to parts of the keys, joined without a server.
#ifndef HEADLIGHT_CLIENT_CPP_MERGE_H_
#define HEADLIGHT_CLIENT_CPP_MERGE_H_

#include "absl/status/statusor.h"
#include "headlight/v1/attention_service.pb.h"

namespace headlight::client {

// What the RPC of the same name answers, within the roundings of float32; `priority` says nothing here. With m the
// largest log-sum-exp of a row's parts and s the head's sink, part p weighs exp(lse_p - m) / (sum of exp(lse - m) +
// exp(s - m)). INVALID_ARGUMENT: no part, parts that do not fit each other or what is to be applied to them, a
// log-sum-exp of NaN or +infinity, an unknown kind.
absl::StatusOr<v1::MergePartialsResponse> MergePartials(const v1::MergePartialsRequest& request);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CPP_MERGE_H_
