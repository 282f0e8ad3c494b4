#include "server/web/statusz.h"

#include <gtest/gtest.h>

#include <string>

namespace headlight {
namespace {

bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Statusz, ShowsItsTables) {
  const std::string page = RenderStatus("Head", {{"Calls", {"method", "OK"}, {{"Attend", "3"}, {"GetDemo", "0"}}}});
  EXPECT_TRUE(page.starts_with("<!doctype html>")) << page;
  EXPECT_TRUE(Has(page, "<h1>Head</h1>")) << page;
  EXPECT_TRUE(Has(page, "<h2>Calls</h2>")) << page;
  EXPECT_TRUE(Has(page, "<tr><th>method</th><th>OK</th></tr>\n<tr><td>Attend</td><td>3</td></tr>")) << page;
}

TEST(Statusz, ATableWithoutRowsSaysSo) {
  EXPECT_TRUE(Has(RenderStatus("Head", {{"Errors", {"reason"}, {}}}), "<h2>Errors</h2>\n<p>none</p>"));
}

TEST(Statusz, WhateverTheTextsAreThePageStaysWhole) {
  const std::string evil = "</td><script>alert(\"1\" & '2')</script>";
  const std::string page = RenderStatus(evil, {{evil, {evil}, {{evil}}}});
  EXPECT_FALSE(Has(page, "<script"));
  EXPECT_TRUE(Has(page, "<td>&lt;/td&gt;&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)")) << page;
}

}  // namespace
}  // namespace headlight
