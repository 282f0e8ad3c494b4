#include "client/cli/statistics.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/format.h"

namespace headlight::cli {

std::string StatisticsText(const v1::AttendResponse& response) {
  if (response.head_statistics().empty()) return "";
  const auto number = [](double x) { return absl::StrFormat("%.3f", x); };
  std::vector<std::vector<std::string>> rows = {
      {"statistics", "entropy", "largest weight", "distance", "on previous", "on same", "on first", "largest score"}};
  for (const v1::HeadStatistics& head : response.head_statistics()) {
    rows.push_back({absl::StrCat("batch ", head.batch(), ", head ", head.head()), number(head.mean_entropy()),
                    number(head.mean_largest_weight()), number(head.mean_distance()), number(head.share_on_previous()),
                    number(head.share_on_same()), number(head.share_on_first()),
                    absl::StrFormat("%.5g", head.largest_score())});
  }
  return absl::StrCat(
      Table(rows),
      "Means over rows: entropy in nats, distance in tokens, the weight on the token before, the same and "
      "the first; the largest score of all.\n");
}

}  // namespace headlight::cli
