#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/problem/checker.h"

namespace headlight {
namespace {

// One finite number per query head, or none.
void CheckPerHead(Checker& c, absl::string_view field, const std::vector<float>& given) {
  const std::int64_t heads = c.spec.dims.query_heads;
  if (!given.empty() && heads != 0 && static_cast<std::int64_t>(given.size()) != heads) {
    c.Report(field, absl::StrCat(given.size(), " numbers"), absl::StrCat(heads, ", one per query head, or none"));
  }
  for (std::size_t h = 0; h < given.size(); ++h) {
    if (!std::isfinite(given[h])) {
      c.Report(absl::StrCat(field, "[", h, "]"), absl::StrCat(given[h]), "a finite number");
    }
  }
}

}  // namespace

void CheckScores(Checker& c) {
  if (c.request.scale.has_value()) {
    c.spec.scale = *c.request.scale;
    if (!std::isfinite(c.spec.scale)) c.Report("options.scale", absl::StrCat(c.spec.scale), "a finite number");
  } else if (c.spec.dims.head_size != 0) {
    c.spec.scale = 1 / std::sqrt(static_cast<double>(c.spec.dims.head_size));
  }
  if (c.request.softcap.has_value()) {
    c.spec.softcap = *c.request.softcap;
    // Within float32 with room for what is multiplied with it.
    if (!(c.spec.softcap >= 1e-30 && c.spec.softcap <= 1e30)) {
      c.Report("options.softcap", absl::StrCat(c.spec.softcap), "a number above 0, from 1e-30 to 1e30, or unset");
    }
  }
  CheckPerHead(c, "options.sinks", c.request.sinks);
  CheckPerHead(c, "options.head_gains", c.request.head_gains);
  c.spec.sinks = c.request.sinks;
  c.spec.head_gains = c.request.head_gains;
}

}  // namespace headlight
