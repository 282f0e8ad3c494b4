#include "server/problem/check_tensor.h"

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

namespace headlight {

bool CheckTensor(absl::string_view field, const TensorForm& form, Ranks ranks, const Limits& limits,
                 Violations& violations) {
  const std::string path = absl::StrCat(field, ".shape");
  const int rank = static_cast<int>(form.shape.size());
  if (rank < ranks.least || rank > ranks.most) {
    violations.Add(path, absl::StrCat("rank ", rank, " ", ToString(form.shape)),
                   ranks.least == ranks.most ? absl::StrCat("rank ", ranks.least)
                                             : absl::StrCat("rank ", ranks.least, " to ", ranks.most));
    return false;
  }
  for (const std::int64_t size : form.shape) {
    if (size < 1) {
      violations.Add(path, ToString(form.shape), "every axis at least 1");
      return false;
    }
  }
  const std::optional<std::int64_t> count = ElementCount(form.shape);
  if (!count.has_value() || *count > limits.max_tensor_elements) {
    violations.AddTooExpensive(path, ToString(form.shape),
                               absl::StrCat("at most ", limits.max_tensor_elements, " elements"));
    return false;
  }
  const std::int64_t bytes = *count * WidthOf(form.kind);
  if (form.payload_bytes.has_value() && *form.payload_bytes != bytes) {
    violations.Add(absl::StrCat(field, ".data"), absl::StrCat(*form.payload_bytes, " bytes"),
                   absl::StrCat(bytes, " bytes for ", ToString(form.shape), " of ", NameOf(form.kind)));
  }
  return true;
}

}  // namespace headlight
