// A page for a person: tables, without scripts and without anything from elsewhere.
#ifndef HEADLIGHT_SERVER_WEB_STATUSZ_H_
#define HEADLIGHT_SERVER_WEB_STATUSZ_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace headlight {

struct StatusTable {
  std::string heading;
  std::vector<std::string> columns;  // empty: none are named
  std::vector<std::vector<std::string>> rows;
};

// One HTML document, whatever the texts are. A table without rows says so.
std::string RenderStatus(absl::string_view title, const std::vector<StatusTable>& tables);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_STATUSZ_H_
