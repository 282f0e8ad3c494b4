// What is told where finite numbers came in and something computed from them is not finite in float32: neither zeros
// nor NaN would be an answer.
#ifndef HEADLIGHT_SERVER_ENGINE_OVERFLOW_H_
#define HEADLIGHT_SERVER_ENGINE_OVERFLOW_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/base/tensor.h"

namespace headlight {

// INVALID_ARGUMENT for `field`: `what` ("a score"), at `index` of its own axes, is beyond float32.
absl::Status Overflow(absl::string_view field, absl::string_view what, const Shape& index);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_OVERFLOW_H_
