#include "server/engine/overflow.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"

namespace headlight {

absl::Status Overflow(absl::string_view field, absl::string_view what, const Shape& index) {
  Violations violations;
  violations.Add(std::string(field), absl::StrCat(what, " beyond float32 at ", ToString(index)),
                 "numbers, scale and slopes small enough for float32");
  return violations.ToStatus();
}

}  // namespace headlight
