#include "server/web/origins.h"

#include <gtest/gtest.h>

namespace headlight {
namespace {

OriginRules Rules(const std::string& scheme = "http") {
  return {{"headlight.example"}, {"https://page.example"}, scheme};
}

TEST(Origins, AServerIsCalledByItsNamesAndByAddresses) {
  for (const char* host : {"localhost", "LOCALHOST:8080", "127.0.0.1:1", "10.1.2.3", "[::1]:8080", "[2001:db8::1]",
                           "headlight.example:8080", "Headlight.Example"}) {
    EXPECT_EQ(Judge({host, "", "", ""}, Rules(), false), Provenance::kOwn) << host;
  }
  for (const char* host :
       {"", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a.headlight.example", "[::1", "[evil]",
        "[::1]evil.example", "[localhost]", "[127.0.0.1]", "localhost:x", "localhost:80:80", "localhost:99999",
        "127.0.0.1@evil.example", "0x7f000001"}) {
    EXPECT_EQ(Judge({host, "", "", ""}, Rules(), true), Provenance::kStrangeHost) << host;
  }
}

TEST(Origins, APageIsOursWhereItsOriginIs) {
  const auto judge = [](const char* host, const char* origin, const char* scheme) {
    return Judge({host, origin, "", ""}, Rules(scheme), false);
  };
  EXPECT_EQ(judge("localhost:8080", "http://localhost:8080", "http"), Provenance::kOwn);
  EXPECT_EQ(judge("localhost:8080", "HTTP://LocalHost:8080", "http"), Provenance::kOwn);
  EXPECT_EQ(judge("localhost:8080", "https://localhost:8080", "https"), Provenance::kOwn);
  EXPECT_EQ(judge("localhost:8080", "https://page.example", "http"), Provenance::kListed);
  for (const char* origin : {"https://localhost:8080", "http://localhost:8081", "http://127.0.0.1:8080", "null",
                             "http://page.example", "https://page.example:444", "http://localhost:8080.evil.example"}) {
    EXPECT_EQ(judge("localhost:8080", origin, "http"), Provenance::kStrangePage) << origin;
  }
}

TEST(Origins, WithoutAnOriginTheBrowserSaysWhoAsks) {
  const auto judge = [](const char* site, const char* mode, bool shows_page) {
    return Judge({"localhost", "", site, mode}, Rules(), shows_page);
  };
  for (const char* site : {"", "none", "same-origin"}) EXPECT_EQ(judge(site, "", false), Provenance::kOwn) << site;
  for (const char* site : {"cross-site", "same-site", "what"}) {
    EXPECT_EQ(judge(site, "cors", false), Provenance::kStrangePage) << site;
    EXPECT_EQ(judge(site, "navigate", false), Provenance::kStrangePage) << site;
    EXPECT_EQ(judge(site, "navigate", true), Provenance::kOwn) << "any page may link: " << site;
    EXPECT_EQ(judge(site, "no-cors", true), Provenance::kStrangePage) << site;
  }
}

}  // namespace
}  // namespace headlight
