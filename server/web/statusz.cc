#include "server/web/statusz.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace headlight {
namespace {

constexpr char kStyle[] =
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em;color:#222;background:#fff}"
    "h1{font-size:1.5em}h2{font-size:1.1em;margin:1.6em 0 .3em}table{border-collapse:collapse}"
    "td,th{text-align:left;padding:.15em 1.5em .15em 0;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}td,th{border-color:#444}}";

std::string Escaped(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

void AppendRow(const std::vector<std::string>& cells, absl::string_view element, std::string& page) {
  absl::StrAppend(&page, "<tr>");
  for (const std::string& cell : cells) absl::StrAppend(&page, "<", element, ">", Escaped(cell), "</", element, ">");
  absl::StrAppend(&page, "</tr>\n");
}

}  // namespace

std::string RenderStatus(absl::string_view title, const std::vector<StatusTable>& tables) {
  std::string page = absl::StrCat("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">",
                                  "<meta name=\"viewport\" content=\"width=device-width\"><title>", Escaped(title),
                                  "</title><style>", kStyle, "</style></head><body>\n<h1>", Escaped(title), "</h1>\n");
  for (const StatusTable& table : tables) {
    absl::StrAppend(&page, "<h2>", Escaped(table.heading), "</h2>\n");
    if (table.rows.empty()) {
      absl::StrAppend(&page, "<p>none</p>\n");
      continue;
    }
    absl::StrAppend(&page, "<table>\n");
    if (!table.columns.empty()) AppendRow(table.columns, "th", page);
    for (const std::vector<std::string>& row : table.rows) AppendRow(row, "td", page);
    absl::StrAppend(&page, "</table>\n");
  }
  absl::StrAppend(&page, "<p><a href=\"/metrics\">/metrics</a> <a href=\"/livez\">/livez</a> ",
                  "<a href=\"/readyz\">/readyz</a></p>\n</body></html>\n");
  return page;
}

}  // namespace headlight
